"""Faults in the rules: the proxy's own go, and those of others are in the way."""

from __future__ import annotations

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.lab import namespaces
from kpx.lab.faults.fault import FRONT, WEB, Fault, Visit
from kpx.lab.faults.site import Site
from kpx.lab.topology import NODE
from kpx.net import Family
from kpx.proxier.frontends import Endpoint, ServicePortName
from kpx.proxier.iptables.names import endpoint_chain, port_hash
from kpx.proxier.nftables.containers import address_key, containers, endpoint_data, split_slot_key

_TABLE = TableName(NfFamily.IP, "kpx")
_PORT = ServicePortName("shop", "web", "http", "TCP")
_ENDPOINT = Endpoint("10.244.21.10", 8080)
_VIP = "10.96.100.1"


# Not mangle: the kubelet's hint there tells which variant of iptables the node uses.
_EMPTY = "".join(f"*{table}\nCOMMIT\n" for table in ("nat", "filter"))


def _flushed(site: Site) -> None:
    site.kill_daemon()
    if site.lab.mode == "nftables":
        site.run("nft", "delete table ip kpx; delete table ip6 kpx")
        return
    if site.lab.mode == "ipvs":
        site.run("ipvsadm", "--clear")
    for family in Family:
        site.run(f"{site.iptables(family)}-restore", stdin=_EMPTY)


def _no_service_rule(site: Site) -> None:
    site.kill_daemon()
    if site.lab.mode == "nftables":
        site.run("nft", "delete element ip kpx service-ips { 10.96.100.1 . tcp . 80 }")
    elif site.lab.mode == "ipvs":
        site.run("ipvsadm", "--delete-service", "--tcp-service", f"{_VIP}:80")
    else:
        _delete(site, "KUBE-SERVICES", f"KUBE-SVC-{port_hash(_PORT)}")


def _no_endpoint_rule(site: Site) -> None:
    site.kill_daemon()
    if site.lab.mode == "nftables":
        site.run("nft", f"delete element ip kpx endpoints {{ 10.96.100.1 . tcp . 80 . {_slot(site)} }}")
    elif site.lab.mode == "ipvs":
        server = ("--tcp-service", f"{_VIP}:80", "--real-server", str(_ENDPOINT))
        site.run("ipvsadm", "--delete-server", *server)
    else:
        _delete(site, f"KUBE-SVC-{port_hash(_PORT)}", endpoint_chain(_PORT, _ENDPOINT))


def _slot(site: Site) -> int:
    """The endpoint's place in its address's list."""
    key, data = address_key(_VIP, "TCP", 80), endpoint_data(_ENDPOINT.ip, _ENDPOINT.port)
    with namespaces.entered(site.lab.namespace(NODE)), Nft() as nft:
        elements = nft.elements(_TABLE, containers(NfFamily.IP).endpoints.name)
    return next(
        split_slot_key(one.key)[1] for one in elements if one.data == data and split_slot_key(one.key)[0] == key
    )


def _delete(site: Site, chain: str, target: str) -> None:
    """Delete the rule of a chain that jumps to another."""
    program = site.iptables()
    rules = site.run(program, "-w", "5", "-t", "nat", "-S", chain).splitlines()
    number = next(at for at, rule in enumerate(rules[1:], 1) if rule.endswith(f"-j {target}"))
    site.run(program, "-w", "5", "-t", "nat", "-D", chain, str(number))


def _no_masquerade(site: Site) -> None:
    site.kill_daemon()
    if site.lab.mode == "nftables":
        site.run("nft", "flush chain ip kpx masquerading")
    else:
        site.run(site.iptables(), "-w", "5", "-t", "nat", "-F", "KUBE-POSTROUTING")


def _policy(site: Site) -> None:
    base = (site.iptables(), "-w", "5", "-P", "FORWARD")
    site.undo(*base, "ACCEPT")
    site.run(*base, "DROP")


def _firewall(site: Site) -> None:
    """A table of nftables of somebody else's; where the kernel has none for IP, a rule of iptables."""
    if site.lab.mode == "ipvs":
        site.insert("filter", "FORWARD", "-d", "10.244.0.0/16", "-p", "tcp", "-j", "DROP")
        return
    site.undo("nft", "delete table inet hostfirewall")
    chain = "add chain inet hostfirewall forward { type filter hook forward priority 10; }"
    rule = "add rule inet hostfirewall forward ip daddr 10.244.0.0/16 meta l4proto tcp drop"
    site.run("nft", "-f", "-", stdin=f"add table inet hostfirewall\n{chain}\n{rule}\n")


def _closed_node_ports(site: Site) -> None:
    site.insert("mangle", "PREROUTING", "-p", "tcp", "--dport", "30080", "-j", "DROP")


def _rejected(site: Site) -> None:
    site.insert("filter", "FORWARD", "-d", "10.244.0.0/16", "-p", "tcp", "-j", "REJECT")


def _led_astray(site: Site) -> None:
    rule = ("-d", f"{_VIP}/32", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", "10.244.22.11:9")
    site.insert("nat", "PREROUTING", *rule)


def _disguised(site: Site) -> None:
    site.insert("nat", "POSTROUTING", "-d", "10.244.0.0/16", "-p", "tcp", "-j", "MASQUERADE")


def _closed_health_check(site: Site) -> None:
    site.insert("filter", "INPUT", "-p", "tcp", "--dport", "32100", "-j", "DROP")


_OLD_CHAINS = """*nat
:KUBE-SVC-OLDOLDOLDOLDOLDO - [0:0]
:KUBE-SEP-OLDOLDOLDOLDOLDO - [0:0]
-A KUBE-SVC-OLDOLDOLDOLDOLDO -j KUBE-SEP-OLDOLDOLDOLDOLDO
-A KUBE-SEP-OLDOLDOLDOLDOLDO -p tcp -m tcp -j DNAT --to-destination 10.244.22.99:8080
COMMIT
"""
_OLD_TABLE = """add table ip kube-proxy
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add chain ip kube-proxy services
add chain ip kube-proxy service-AAAAAAAA-shop/old/tcp/http
add element ip kube-proxy service-ips { 10.96.100.77 . tcp . 80 : goto service-AAAAAAAA-shop/old/tcp/http }
"""


def _old_rules(site: Site) -> None:
    """What a kube-proxy of another mode has left."""
    if site.lab.mode == "iptables":
        site.undo("nft", "delete table ip kube-proxy")
        site.run("nft", "-f", "-", stdin=_OLD_TABLE)
        return
    program = site.iptables()
    base = (program, "-w", "5", "-t", "nat")
    for chain in ("KUBE-SEP-OLDOLDOLDOLDOLDO", "KUBE-SVC-OLDOLDOLDOLDOLDO"):
        site.undo(*base, "-X", chain)
        site.undo(*base, "-F", chain)
    site.run(f"{program}-restore", "--noflush", stdin=_OLD_CHAINS)


FAULTS = (
    Fault(
        "rules-flushed",
        "the proxy has crashed, and somebody flushed all rules",
        "clusterip",
        "shop/web",
        "KPX-IP-004",
        _flushed,
        WEB,
    ),
    Fault(
        "service-rule-missing",
        "the proxy has crashed, and somebody deleted its rule for a Service's address",
        "clusterip",
        "shop/web",
        "KPX-IP-004",
        _no_service_rule,
        WEB,
    ),
    Fault(
        "endpoint-rule-missing",
        "the proxy has crashed, and somebody deleted its rule for one of the endpoints",
        "clusterip",
        "shop/web",
        "KPX-IP-005",
        _no_endpoint_rule,
    ),
    Fault(
        "masquerade-missing",
        "the proxy has crashed, and somebody flushed its chain that masquerades",
        "source-ip",
        "shop/front",
        "KPX-SI-003",
        _no_masquerade,
    ),
    Fault(
        "forward-policy",
        "the chain FORWARD of iptables has the policy DROP, as Docker sets it",
        "clusterip",
        "shop/web",
        "KPX-FW-001",
        _policy,
        WEB,
        ("iptables", "nftables"),  # IPVS sends to a pod by OUTPUT, and what a pod answers is accepted before
    ),
    Fault(
        "firewall",
        "a firewall on the host drops what is forwarded to pods",
        "clusterip",
        "shop/web",
        "KPX-FW-001",
        _firewall,
        WEB,
    ),
    Fault(
        "reject",
        "a rule of somebody else rejects what is forwarded to pods",
        "clusterip",
        "shop/web",
        "KPX-FW-001",
        _rejected,
        WEB,
    ),
    Fault(
        "foreign-dnat",
        "a rule of somebody else translates a Service's address before the proxy's rules see it",
        "clusterip",
        "shop/web",
        "KPX-FW-003",
        _led_astray,
        WEB,
    ),
    Fault(
        "node-port-closed",
        "a firewall on the host drops what comes for a node port",
        "nodeport",
        "shop/front",
        "KPX-FW-002",
        _closed_node_ports,
        FRONT,
    ),
    Fault(
        "health-check-closed",
        "a firewall on the host drops what load balancers ask a health-check node port",
        "nodeport",
        "shop/shopfront",
        "KPX-NP-008",
        _closed_health_check,
        Visit("client", address="10.199.0.21", port=32100),
    ),
    Fault(
        "source-hidden",
        "a rule of somebody else masquerades all that goes to pods",
        "source-ip",
        "shop/shopfront",
        "KPX-SI-002",
        _disguised,
    ),
    Fault(
        "old-rules",
        "a kube-proxy of another mode has left rules",
        "sync",
        "",
        "KPX-PX-004",
        _old_rules,
    ),
)
