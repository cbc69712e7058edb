"""The iptables rules of ipvs mode: a few, and the same whatever Services there are, but for which sets are in use.

Pure. Source: kube-proxy 1.36 in ipvs mode. Rules are in the form in which ``iptables-save`` prints them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kpx.net import Family
from kpx.proxier.iptables.rules import comment, rule
from kpx.proxier.iptables.skeleton import Jump, forwarding_rules, mark_masq_rules, masquerade_rules
from kpx.proxier.ipvs import names
from kpx.proxier.ipvs.names import IpSet
from kpx.proxier.ipvs.settings import Settings


def _jump(table: str, chain: str, to: str, text: str) -> Jump:
    return Jump(table, chain, to, rule(comment(text), jump=to))


# In kube-proxy's order of creation; each is put before those that are there.
JUMPS: tuple[Jump, ...] = (
    _jump("nat", "OUTPUT", names.SERVICES, "kubernetes service portals"),
    _jump("nat", "PREROUTING", names.SERVICES, "kubernetes service portals"),
    _jump("nat", "POSTROUTING", names.POSTROUTING, "kubernetes postrouting rules"),
    _jump("filter", "FORWARD", names.FORWARD, "kubernetes forwarding rules"),
    _jump("filter", "INPUT", names.NODE_PORT, "kubernetes health check rules"),
    _jump("filter", "INPUT", names.PROXY_FIREWALL, "kube-proxy firewall rules"),
    _jump("filter", "FORWARD", names.PROXY_FIREWALL, "kube-proxy firewall rules"),
    _jump("filter", "INPUT", names.FILTER, "kubernetes ipvs access filter"),
    _jump("filter", "OUTPUT", names.OUT_FILTER, "kubernetes ipvs access filter"),
)

CHAINS: tuple[tuple[str, str], ...] = (
    *(
        ("nat", chain)
        for chain in (names.SERVICES, names.POSTROUTING, names.NODE_PORT, names.LOAD_BALANCER, names.MARK_MASQ)
    ),
    *(
        ("filter", chain)
        for chain in (
            names.FORWARD,
            names.NODE_PORT,
            names.PROXY_FIREWALL,
            names.SOURCE_RANGES,
            names.FILTER,
            names.OUT_FILTER,
        )
    ),
)

Chains = dict[tuple[str, str], tuple[str, ...]]


def chains(settings: Settings, used: Collection[IpSet], refusals: Collection[str]) -> Chains:
    """The rules of every chain, by table and chain. `used` are the sets that have entries."""
    return _Renderer(settings, used).chains(refusals)


class _Renderer:
    def __init__(self, settings: Settings, used: Collection[IpSet]) -> None:
        self._settings = settings
        self._used = used

    def chains(self, refusals: Collection[str]) -> Chains:
        settings = self._settings
        found = {
            ("nat", names.SERVICES): self._services(),
            ("nat", names.POSTROUTING): self._postrouting(),
            ("nat", names.NODE_PORT): self._node_ports(),
            ("nat", names.LOAD_BALANCER): self._load_balancer(),
            ("nat", names.MARK_MASQ): mark_masq_rules(settings.mark),
            ("filter", names.FORWARD): forwarding_rules(settings.mark),
            ("filter", names.NODE_PORT): [self._rule(IpSet.HEALTH_CHECK_NODE_PORT, "dst", "ACCEPT")],
            ("filter", names.PROXY_FIREWALL): self._if_used(IpSet.LOAD_BALANCER_FW, "dst,dst", names.SOURCE_RANGES),
            ("filter", names.SOURCE_RANGES): self._source_ranges(),
            ("filter", names.FILTER): self._filter(),
            ("filter", names.OUT_FILTER): sorted(refusals),
        }
        return {where: tuple(found[where]) for where in CHAINS}

    def _match(self, one: IpSet, directions: str) -> str:
        return f"-m set --match-set {one.in_family(self._settings.family)} {directions}"

    def _rule(self, one: IpSet, directions: str, target: str, *more: str, **options: str) -> str:
        """A rule for what is in a set, with the set's comment."""
        return rule(comment(one.comment), self._match(one, directions), *more, jump=target, **options)

    def _if_used(self, one: IpSet, directions: str, target: str, *more: str, **options: str) -> Iterator[str]:
        if one in self._used:
            yield self._rule(one, directions, target, *more, **options)

    def _services(self) -> Iterator[str]:
        yield rule(source=self._settings.family.loopback, jump="RETURN")
        yield from self._if_used(IpSet.LOAD_BALANCER, "dst,dst", names.LOAD_BALANCER)
        yield from self._cluster_ips()
        yield from self._if_used(IpSet.EXTERNAL_IP, "dst,dst", names.MARK_MASQ)
        for one in (IpSet.EXTERNAL_IP, IpSet.EXTERNAL_IP_LOCAL):
            foreign = ("-m physdev ! --physdev-is-in", "-m addrtype ! --src-type LOCAL")
            yield from self._if_used(one, "dst,dst", "ACCEPT", *foreign)
            yield from self._if_used(one, "dst,dst", "ACCEPT", "-m addrtype --dst-type LOCAL")
        yield rule("-m addrtype --dst-type LOCAL", jump=names.NODE_PORT)
        for one in (IpSet.CLUSTER_IP, IpSet.LOAD_BALANCER):
            if one in self._used:
                yield rule(self._match(one, "dst,dst"), jump="ACCEPT")

    def _cluster_ips(self) -> Iterator[str]:
        """Who is masqueraded on the way to a ClusterIP: everybody, what is not of the cluster, or the node itself."""
        local = self._settings.local_traffic
        if self._settings.masquerade_all:
            yield from self._if_used(IpSet.CLUSTER_IP, "dst,dst", names.MARK_MASQ)
        elif local is None:
            yield from self._if_used(IpSet.CLUSTER_IP, "src,dst", names.MARK_MASQ)
        elif local.source:
            yield from self._if_used(IpSet.CLUSTER_IP, "dst,dst", names.MARK_MASQ, source=f"! {local.source}")
        else:
            yield from self._if_used(IpSet.CLUSTER_IP, "dst,dst", names.MARK_MASQ, interface=f"! {local.interface}")

    def _postrouting(self) -> Iterator[str]:
        yield from self._if_used(IpSet.LOOP_BACK, "dst,dst,src", "MASQUERADE")
        yield from masquerade_rules(self._settings.mark, random_fully=self._settings.random_fully)

    def _node_ports(self) -> Iterator[str]:
        for protocol, local, every, directions in (
            ("tcp", IpSet.NODE_PORT_LOCAL_TCP, IpSet.NODE_PORT_TCP, "dst"),
            ("udp", IpSet.NODE_PORT_LOCAL_UDP, IpSet.NODE_PORT_UDP, "dst"),
            ("sctp", IpSet.NODE_PORT_LOCAL_SCTP, IpSet.NODE_PORT_SCTP, "dst,dst"),
        ):
            yield from self._if_used(local, directions, "RETURN", protocol=protocol)
            yield from self._if_used(every, directions, names.MARK_MASQ, protocol=protocol)

    def _load_balancer(self) -> Iterator[str]:
        yield from self._if_used(IpSet.LOAD_BALANCER_LOCAL, "dst,dst", "RETURN")
        yield rule(jump=names.MARK_MASQ)

    def _source_ranges(self) -> Iterator[str]:
        for one in (IpSet.LOAD_BALANCER_SOURCE_CIDR, IpSet.LOAD_BALANCER_SOURCE_IP):
            yield from self._if_used(one, "dst,dst,src", "RETURN")
        yield rule(jump="DROP")

    def _filter(self) -> Iterator[str]:
        """New connections to a service address, on a port that is no service port, do not reach the node's own."""
        for one in (IpSet.LOAD_BALANCER, IpSet.CLUSTER_IP, IpSet.EXTERNAL_IP, IpSet.EXTERNAL_IP_LOCAL):
            yield rule(self._match(one, "dst,dst"), jump="RETURN")
        yield rule(self._match(IpSet.HEALTH_CHECK_NODE_PORT, "dst"), jump="RETURN")
        reject = "icmp-port-unreachable" if self._settings.family is Family.IPV4 else "icmp6-port-unreachable"
        new = "-m conntrack --ctstate NEW"
        yield rule(new, self._match(IpSet.IPVS_IPS, "dst"), jump=f"REJECT --reject-with {reject}")
