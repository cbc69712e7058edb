"""The lab's network: links, addresses, routes and sysctls, as text for ``ip -batch`` and as files of /proc/sys.

Links are routed, not bridged: no bridge netfilter has a say, and node-a sees each pod on an interface of its own.
Neighbours are entered by hand (every link's upper end has one well-known address), so that no packet waits for ARP,
neighbour discovery or duplicate address detection.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from kpx.lab import namespaces
from kpx.lab.topology import NODE, ROUTER, SERVICE_NETWORKS, Place, Role, Topology, namespace
from kpx.net import Family, family_of

_GATEWAY = {Family.IPV4: "169.254.1.1", Family.IPV6: "fe80::1"}
_FAMILY_OPTIONS = {Family.IPV4: "-4", Family.IPV6: "-6"}
_BEYOND, _BACK = 96, 97  # routing tables of the router
GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"

# Written before a namespace has links, so that the links inherit what is under "default". ICMP errors are not rated:
# every refusal counts. Early demultiplexing would let the router take the packets of a connection that ends at it on
# their first way through, past node-a.
_SYSCTLS = {
    "net/ipv4/ip_forward": 1,
    "net/ipv4/ip_early_demux": 0,
    "net/ipv4/icmp_ratemask": 0,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/conf/default/send_redirects": 0,
    "net/ipv6/conf/all/disable_ipv6": 0,
    "net/ipv6/conf/default/disable_ipv6": 0,
    "net/ipv6/conf/all/forwarding": 1,
    "net/ipv6/conf/default/forwarding": 1,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/icmp/ratelimit": 0,
}


def build(lab: str, topology: Topology) -> None:
    """Make all namespaces of a lab and connect them. Raises OSError with what ``ip`` complained of."""
    for place in topology.places:
        namespaces.make(namespace(lab, place.name))
        _write_sysctls(namespace(lab, place.name))
    _run_batches((namespace(lab, place.name), _own_side(lab, place)) for place in topology.places)
    _run_batches((namespace(lab, place.name), _upper_sides(topology, place)) for place in topology.places)
    node = topology.place(NODE)
    _run_batches((namespace(lab, ROUTER), _beyond(node, family), option) for family, option in _FAMILY_OPTIONS.items())


def remove(names: list[str]) -> None:
    """Remove namespaces by name; links, addresses and rules go with them."""
    for name in names:
        namespaces.remove(name)


def _write_sysctls(name: str) -> None:
    with namespaces.entered(name):
        for key, value in _SYSCTLS.items():
            Path("/proc/sys", key).write_text(str(value), encoding="ascii")


def _run_batches(batches: Iterable[tuple[str, Iterable[str]] | tuple[str, Iterable[str], str]]) -> None:
    """Run batches of ``ip`` commands, all at once; each is a namespace, the commands and perhaps an option."""
    running = []
    for name, lines, *options in batches:
        command = ["ip", *options, "-batch", "-"]
        # Not `ip -n`: that wants to change how mounts propagate, which it cannot in a chroot.
        with namespaces.entered(name):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append((process, "".join(f"{line}\n" for line in lines)))
    complaints = [process.communicate(batch)[1] for process, batch in running]
    if any(process.returncode for process, _ in running):
        raise OSError("".join(complaints))


def _own_side(lab: str, place: Place) -> Iterator[str]:
    """The loopback, the link to the uplink, and everything on this end of it."""
    device = "eth0" if place.uplink else "lo"
    yield "link set lo up"
    if place.uplink:
        peer = f"peer name {place.port} address {GATEWAY_MAC} netns {namespace(lab, place.uplink)}"
        yield f"link add eth0 address {_mac(place)} type veth {peer}"
        yield "link set eth0 up"
    for address in place.addresses:
        yield f"address add {address} dev {device}"
    for address in place.further:
        # An IPv6 address without preferred lifetime is never chosen as source: the place speaks from its first one.
        lifetime = " preferred_lft 0" if family_of(address) is Family.IPV6 else ""
        yield f"address add {address} dev {device}{lifetime}"
    if place.role is Role.CLIENT:
        for network in place.networks:
            yield f"route add local {network} dev lo"


def _upper_sides(topology: Topology, place: Place) -> Iterator[str]:
    """The other ends of the links to the places behind this one, with the routes there, and the way up."""
    for leaf in topology.behind(place.name):
        yield f"link set {leaf.port} up"
        for address in leaf.addresses:
            yield f"neighbour add {address} dev {leaf.port} lladdr {_mac(leaf)} nud permanent"
            yield f"route add {address} dev {leaf.port}"
        for network in (*leaf.further, *leaf.networks):
            yield f"route add {network} via {leaf.address(family_of(network))} dev {leaf.port}"
    if place.uplink:
        for address in place.addresses:
            gateway = _GATEWAY[family_of(address)]
            yield f"neighbour add {gateway} dev eth0 lladdr {GATEWAY_MAC} nud permanent"
            yield f"route add default via {gateway} dev eth0 onlink src {address}"


def _beyond(place: Place, family: Family) -> Iterator[str]:
    """What node-a sends out to a Service address ends at the router, whose servers answer it back through node-a."""
    via = f"via {place.address(family)} dev {place.port}"
    yield f"route add default {via} table {_BACK}"
    for network in SERVICE_NETWORKS:
        if family_of(network) is family:
            yield f"route add local {network} dev lo table {_BEYOND}"
            yield f"rule add to {network} iif {place.port} lookup {_BEYOND}"
            yield f"rule add from {network} iif lo lookup {_BACK}"


def _mac(place: Place) -> str:
    """A link-layer address of its own for each place, made of its IPv4 address."""
    return "02:00:" + ":".join(f"{int(octet):02x}" for octet in place.addresses[0].split("."))
