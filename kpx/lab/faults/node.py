"""Faults in the node's settings, its sockets and its tables of connections."""

from __future__ import annotations

from kpx.lab import namespaces
from kpx.lab.faults import flood
from kpx.lab.faults.fault import FRONT, WEB, Fault, Visit
from kpx.lab.faults.site import Site
from kpx.lab.topology import NODE

_CLIENTS = "203.0.113.0/24"
_LISTENS = """
import signal, socket
held = socket.create_server(("::", 30080), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
signal.pause()
"""
_LOCKS = """
import fcntl, signal
held = open({path!r}, "a")
fcntl.flock(held, fcntl.LOCK_EX)
print("ready", flush=True)
signal.pause()
"""


def _lock(site: Site) -> None:
    site.lock.touch()
    site.start(_LOCKS.format(path=str(site.lock)))


def _no_forwarding(site: Site) -> None:
    site.set("net/ipv4/ip_forward", 0)


def _strict(site: Site) -> None:
    """Answers find their way by a mark, as several CNI plugins have it; a look at the routes has none."""
    rule = ("fwmark", "0x1/0x1", "lookup", "98")
    site.undo("ip", "route", "flush", "table", "98")
    site.run("ip", "route", "add", _CLIENTS, "via", "169.254.1.1", "dev", "eth0", "onlink", "table", "98")
    site.undo("ip", "rule", "delete", *rule)
    site.run("ip", "rule", "add", *rule)
    site.insert("mangle", "PREROUTING", "-s", "10.244.0.0/16", "-j", "MARK", "--set-xmark", "0x1/0x1")
    site.undo("ip", "route", "delete", _CLIENTS, "dev", "pod-a12")
    site.run("ip", "route", "add", _CLIENTS, "dev", "pod-a12")
    site.set("net/ipv4/conf/all/rp_filter", 1)


def _no_localnet(site: Site) -> None:
    site.set("net/ipv4/conf/all/route_localnet", 0)


def _taken(site: Site) -> None:
    site.start(_LISTENS)


def _narrow(site: Site) -> None:
    site.configure({"nodePortAddresses": ["10.199.1.0/24"]})


def _full(site: Site) -> None:
    site.undo("conntrack", "-D", "-s", flood.CLIENT)
    with namespaces.entered(site.lab.namespace(NODE)):
        flood.fill()


def _stale(site: Site) -> None:
    flow = ("-p", "udp", "-s", "10.244.21.10", "-d", "10.96.100.2", "--sport", "5353", "--dport", "53")
    gone = ("-r", "10.244.22.99", "-q", "10.244.21.10", "--reply-port-src", "53", "--reply-port-dst", "5353")
    site.undo("conntrack", "-D", *flow)
    site.run("conntrack", "-I", *flow, *gone, "-t", "600")


FAULTS = (
    Fault("forwarding-off", "the node does not forward", "clusterip", "shop/web", "KPX-KN-001", _no_forwarding, WEB),
    Fault(
        "strict-reverse-path",
        "reverse path filtering is strict, and the routes of clients are not symmetrical",
        "nodeport",
        "shop/front",
        "KPX-KN-003",
        _strict,
        FRONT,
    ),
    Fault(
        "no-localhost-node-ports",
        "route_localnet is off",
        "nodeport",
        "shop/front",
        "KPX-KN-006",
        _no_localnet,
        Visit("node-a", address="127.0.0.1", port=30080),
        ("iptables",),
    ),
    Fault(
        "node-port-taken",
        "a process of the node listens on a node port",
        "nodeport",
        "shop/front",
        "KPX-NP-004",
        _taken,
    ),
    Fault(
        "narrow-node-port-addresses",
        "nodePortAddresses leaves out the node's own address",
        "nodeport",
        "shop/front",
        "KPX-NP-002",
        _narrow,
        FRONT,
    ),
    Fault("lock-held", "a process keeps the xtables lock", "sync", "", "KPX-SY-004", _lock),
    Fault("conntrack-full", "one client fills the conntrack table", "conntrack", "", "KPX-CT-001", _full),
    Fault(
        "stale-flow",
        "a UDP flow goes on to an endpoint that is gone",
        "conntrack",
        "shop/dns",
        "KPX-CT-010",
        _stale,
    ),
)
