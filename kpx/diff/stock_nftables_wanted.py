"""What a stock kube-proxy in mode nftables makes of a service port, as facts, and what its table holds for all. Pure.

Source: kube-proxy 1.36 in nftables mode.
"""

from __future__ import annotations

from collections.abc import Iterator

from kpx.diff.facts import Aspect, Fact, Facts
from kpx.diff.iptables_facts import place
from kpx.diff.layout import Learned
from kpx.diff.nft_facts import ALL, EXTERNAL, HERE, allowed
from kpx.kernel.nft.objects import Chain, Hook, HookPoint
from kpx.net import Family
from kpx.proxier.frontends import Frontend, Frontends, Kind, Scope, Verdict
from kpx.proxier.node import LocalTraffic

_LIST = {Scope.CLUSTER: ALL, Scope.LOCAL: HERE}
_SUFFIX = {Scope.CLUSTER: "", Scope.LOCAL: " (policy Local)"}
# The maps of addresses and those of node ports: what is served, what is refused.
_MAPS = {False: ("service-ips", "no-endpoint-services"), True: ("service-nodeports", "no-endpoint-nodeports")}

BASE_CHAINS = {
    chain.name: chain
    for chain in (
        Chain("filter-prerouting-pre-dnat", Hook("filter", HookPoint.PREROUTING, -110)),
        Chain("filter-output-pre-dnat", Hook("filter", HookPoint.OUTPUT, -110)),
        Chain("filter-input", Hook("filter", HookPoint.INPUT, 0)),
        Chain("filter-forward", Hook("filter", HookPoint.FORWARD, 0)),
        Chain("filter-output", Hook("filter", HookPoint.OUTPUT, 0)),
        Chain("nat-prerouting", Hook("nat", HookPoint.PREROUTING, -100)),
        Chain("nat-output", Hook("nat", HookPoint.OUTPUT, -100)),
        Chain("nat-postrouting", Hook("nat", HookPoint.POSTROUTING, 100)),
    )
}


def base_rules(family: Family, learned: Learned, *, restricted: bool) -> dict[str, list[str]]:
    """The rules of the chains that all share, as nft prints them, without comments.

    `restricted`: node ports answer on some of the node's addresses only.
    """
    ip = "ip" if family is Family.IPV4 else "ip6"
    loopback = family.loopback if family is Family.IPV4 else "::1"
    key, mark = f"{ip} daddr . meta l4proto . th dport", f"0x{learned.mark:08x}"
    here = f"{ip} daddr @nodeport-ips" if restricted else f"{ip} daddr != {loopback}"
    local = here if restricted else f"fib daddr type local {here}"
    hairpin = f"ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections"
    return {
        "filter-prerouting-pre-dnat": ["ct state new jump firewall-check"],
        "filter-output-pre-dnat": ["ct state new jump firewall-check"],
        "filter-input": ["ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"],
        "filter-forward": ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
        "filter-output": ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
        "nat-prerouting": ["jump services"],
        "nat-output": ["jump services"],
        "nat-postrouting": ["jump masquerading"],
        "nodeport-endpoints-check": [f"{here} meta l4proto . th dport vmap @no-endpoint-nodeports"],
        "service-endpoints-check": [f"{key} vmap @no-endpoint-services"],
        "firewall-check": [f"{key} vmap @firewall-ips"],
        "services": [
            *_masquerade(ip, learned, mark),
            f"{key} vmap @service-ips",
            f"{local} meta l4proto . th dport vmap @service-nodeports",
        ],
        "masquerading": [
            f"meta mark & {mark} != 0x00000000 meta mark set meta mark ^ {mark} masquerade fully-random",
            f"{hairpin} masquerade fully-random",
        ],
        "cluster-ips-check": [f"{ip} daddr @cluster-ips reject"],
        "reject-chain": ["reject"],
    }


def _masquerade(ip: str, learned: Learned, mark: str) -> Iterator[str]:
    """The rule that marks traffic from outside to ClusterIPs."""
    outside = f"{ip} daddr @cluster-ips"
    if learned.masquerade_all:
        yield f"{outside} meta mark set meta mark | {mark}"
    elif learned.pods and learned.pods.source:
        yield f"{outside} {ip} saddr != {learned.pods.source} meta mark set meta mark | {mark}"
    elif learned.pods:
        name = learned.pods.interface.replace("+", "*")
        yield f'{outside} iifname != "{name}" meta mark set meta mark | {mark}'


def wanted_facts(frontends: Frontends, pods: LocalTraffic | None, table: str) -> Facts:
    """What the table should say of a service port."""
    return {key: fact for key, fact in _facts(frontends, pods, table)}


def _facts(it: Frontends, pods: LocalTraffic | None, table: str) -> Iterator[tuple[tuple[Aspect, str], Fact]]:
    for endpoint in it.reachable:
        if endpoint.local:
            ip, protocol = endpoint.ip, it.port.protocol.lower()
            element = f"{ip} . {ip} . {protocol} . {endpoint.port}"
            yield (Aspect.HAIRPIN, str(endpoint)), Fact("", f"set {table} hairpin-connections", element)
    for one in it.frontends:
        yield from _addresses(one, it, table)
    if it.has_endpoints and it.frontends:
        if any(one.external for one in it.frontends):
            yield from _external(it, pods, table)
        yield from _lists(it, table)


def _addresses(one: Frontend, it: Frontends, table: str) -> Iterator[tuple[tuple[Aspect, str], Fact]]:
    """The elements of an address or node port."""
    to = place(one.address, one.port, one.protocol)
    serving, refusing = _MAPS[one.address is None]
    if one.kind is Kind.CLUSTER_IP:
        where = f"set {table} cluster-ips"
        yield (Aspect.RULE, f"{one.address} in the set cluster-ips"), Fact("", where, one.address or "")
    if one.kind is Kind.CLUSTER_IP and one.verdict is Verdict.FORWARD:
        yield (Aspect.ADDRESS, to), Fact(_LIST[one.scope], f"map {table} {serving}")
    elif one.external and it.has_endpoints:
        yield (Aspect.ADDRESS, to), Fact(EXTERNAL, f"map {table} {serving}")
    if one.verdict is not Verdict.FORWARD:
        yield (Aspect.REFUSAL, to), Fact(one.verdict.value, f"map {table} {refusing}")
    if one.sources:
        virtual = [each.address for each in it.frontends if each.sources and each.address]
        words = allowed(one.sources, virtual)
        yield (Aspect.SOURCES, f"who may use {to}"), Fact(words, f"map {table} firewall-ips")


def _external(it: Frontends, pods: LocalTraffic | None, table: str) -> Iterator[tuple[tuple[Aspect, str], Fact]]:
    """The chain of external addresses."""
    where = f"table {table}"
    scope = it.external_scope
    if scope is Scope.CLUSTER:
        yield (Aspect.MASQUERADE, "external traffic"), Fact("always", where)
    else:
        if pods:
            who = f" from {pods.source}" if pods.source else f" in by {pods.interface.replace('+', '*')}"
            yield (Aspect.POLICY, f"external traffic{who}"), Fact(ALL, where)
        yield (Aspect.MASQUERADE, "external traffic from this node"), Fact("always", where)
        yield (Aspect.POLICY, "external traffic from this node"), Fact(ALL, where)
    if it.served_by(scope):
        yield (Aspect.POLICY, "external traffic"), Fact(_LIST[scope], where)


def _lists(it: Frontends, table: str) -> Iterator[tuple[tuple[Aspect, str], Fact]]:
    """The chains that choose among endpoints."""
    where = f"table {table}"
    for scope, suffix in _SUFFIX.items():
        for endpoint in it.served_by(scope):
            yield (Aspect.ENDPOINT, f"{endpoint}{suffix}"), Fact("", where)
            if it.affinity is not None:
                yield (Aspect.AFFINITY, f"{endpoint}{suffix}"), Fact(f"for {it.affinity} s", where)
    if it.affinity is not None:
        for endpoint in it.reachable:
            yield (Aspect.ENDPOINT, f"{endpoint}, by its own chain"), Fact(str(endpoint), where)
            yield (Aspect.AFFINITY, f"the clients of {endpoint}"), Fact("noted", where)
