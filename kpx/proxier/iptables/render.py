"""Frontends -> iptables rules: the chains of one service port, and its lines in the chains that all share.

Pure. Source: kube-proxy 1.36 in iptables mode; chain names, comments and the order of rules are its.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kpx.net import Family, contains
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Masquerade, Scope, Verdict
from kpx.proxier.iptables import names
from kpx.proxier.iptables.rules import comment, host, port, probability, recent, rule
from kpx.proxier.iptables.settings import LOCALHOST_ACCEPTED, Settings

_SCOPE_CHAIN = {Scope.CLUSTER: "KUBE-SVC-", Scope.LOCAL: "KUBE-SVL-"}
_ADDRESS_COMMENT = {
    Kind.CLUSTER_IP: "cluster IP",
    Kind.EXTERNAL_IP: "external IP",
    Kind.LOAD_BALANCER: "loadbalancer IP",
}
_TARGET = {
    Family.IPV4: {Verdict.DROP: "DROP", Verdict.REJECT: "REJECT --reject-with icmp-port-unreachable"},
    Family.IPV6: {Verdict.DROP: "DROP", Verdict.REJECT: "REJECT --reject-with icmp6-port-unreachable"},
}


class Line(NamedTuple):
    """A rule in a chain that all service ports share."""

    table: str
    chain: str
    rule: str


class PortRules(NamedTuple):
    """The rules of one service port: its own chains in the nat table, and its lines in shared chains, in order."""

    chains: dict[str, tuple[str, ...]]
    lines: tuple[Line, ...]

    def counts(self) -> dict[str, int]:
        """The number of rules, by table."""
        shared = sum(line.table == "nat" for line in self.lines)
        return {"nat": sum(map(len, self.chains.values())) + shared, "filter": len(self.lines) - shared}


NO_RULES = PortRules({}, ())


def render(frontends: Frontends, settings: Settings) -> PortRules:
    """The rules of one service port."""
    return _Renderer(frontends, settings).rules()


def refuses(frontends: Frontends) -> bool:
    """Whether a service port may have lines in the filter table."""
    return bool(frontends.health_check_port) or any(
        one.sources or one.verdict is not Verdict.FORWARD for one in frontends.frontends
    )


class _Renderer:
    def __init__(self, frontends: Frontends, settings: Settings) -> None:
        self._it = frontends
        self._settings = settings
        self._name = str(frontends.port)
        self._protocol = frontends.port.protocol.lower()
        self._hash = names.port_hash(frontends.port)
        self._endpoint_chain = {one: names.endpoint_chain(frontends.port, one) for one in frontends.reachable}
        self._external = tuple(one for one in frontends.frontends if one.external)
        # A port's frontends may all have been lost to an older Service; its endpoints then have no way in.
        self._served = frontends.has_endpoints and bool(frontends.frontends)

    def rules(self) -> PortRules:
        return PortRules(
            {chain: tuple(rules) for chain, rules in self._chains()},
            tuple(line for one in self._it.frontends for line in self._lines(one)),
        )

    # The lines in shared chains: how a packet enters.

    def _lines(self, one: Frontend) -> Iterator[Line]:
        if one.kind is Kind.CLUSTER_IP:
            yield from self._cluster_ip_lines(one)
            return
        if self._it.has_endpoints:
            yield from self._entrance_lines(one)
        if one.verdict is not Verdict.FORWARD:
            yield Line("filter", names.EXTERNAL_SERVICES, self._verdict_rule(one))

    def _cluster_ip_lines(self, one: Frontend) -> Iterator[Line]:
        if one.verdict is Verdict.FORWARD:
            chain = self._scope_chain(one.scope)
            yield Line("nat", names.SERVICES, self._address_rule(one, f"{self._name} cluster IP", jump=chain))
        else:
            yield Line("filter", names.SERVICES, self._verdict_rule(one))
        if self._it.health_check_port:
            # The rule belongs to the Service, not to an address; a Service always has its ClusterIP.
            text = comment(f"{self._name} health check node port")
            accept = rule(text, port("tcp", self._it.health_check_port), protocol="tcp", jump="ACCEPT")
            yield Line("filter", names.NODE_PORTS, accept)

    def _entrance_lines(self, one: Frontend) -> Iterator[Line]:
        chain = f"KUBE-EXT-{self._hash}"
        if one.kind is Kind.NODE_PORT:
            yield from self._node_port_lines(one, chain)
            return
        text = f"{self._name} {_ADDRESS_COMMENT[one.kind]}"
        if not one.sources:
            yield Line("nat", names.SERVICES, self._address_rule(one, text, jump=chain))
            return
        firewall = f"KUBE-FW-{self._hash}"
        yield Line("nat", names.SERVICES, self._address_rule(one, text, jump=firewall))
        refused = f"{self._name} traffic not accepted by {firewall}"
        yield Line("filter", names.PROXY_FIREWALL, self._address_rule(one, refused, jump="DROP"))

    def _node_port_lines(self, one: Frontend, chain: str) -> Iterator[Line]:
        matches = (comment(self._name), port(self._protocol, one.port))
        if self._settings.localhost_node_ports and LOCALHOST_ACCEPTED in self._settings.counters:
            counted = (*matches, f"-m nfacct --nfacct-name {LOCALHOST_ACCEPTED}")
            local = rule(*counted, destination="127.0.0.0/8", protocol=self._protocol, jump=chain)
            yield Line("nat", names.NODE_PORTS, local)
        yield Line("nat", names.NODE_PORTS, rule(*matches, protocol=self._protocol, jump=chain))

    def _verdict_rule(self, one: Frontend) -> str:
        what = "no endpoints" if one.verdict is Verdict.REJECT else "no local endpoints"
        text, target = f"{self._name} has {what}", _TARGET[self._settings.family][one.verdict]
        if one.kind is not Kind.NODE_PORT:
            return self._address_rule(one, text, jump=target)
        local = "-m addrtype --dst-type LOCAL"
        return rule(comment(text), local, port(self._protocol, one.port), protocol=self._protocol, jump=target)

    def _address_rule(self, one: Frontend, text: str, *, jump: str, **options: str) -> str:
        assert one.address is not None
        return rule(
            comment(text),
            port(self._protocol, one.port),
            destination=host(one.address),
            protocol=self._protocol,
            jump=jump,
            **options,
        )

    # The chains of the service port: how it goes on.

    def _scope_chain(self, scope: Scope) -> str:
        return f"{_SCOPE_CHAIN[scope]}{self._hash}"

    def _chains(self) -> Iterator[tuple[str, list[str]]]:
        if not self._served:
            return
        if self._external:
            yield f"KUBE-EXT-{self._hash}", list(self._external_rules())
        firewalled = [one for one in self._external if one.sources]
        if firewalled:
            yield f"KUBE-FW-{self._hash}", list(self._firewall_rules(firewalled))
        for scope in Scope:
            if endpoints := self._it.served_by(scope):
                yield self._scope_chain(scope), [*self._masquerade_rules(scope), *self._balance_rules(endpoints)]
        for endpoint in self._it.reachable:
            yield self._endpoint_chain[endpoint], list(self._endpoint_rules(endpoint))

    def _external_rules(self) -> Iterator[str]:
        scope = self._it.external_scope
        what = f"{self._name} external destinations"
        if scope is Scope.CLUSTER:
            yield rule(comment(f"masquerade traffic for {what}"), jump=names.MARK_MASQ)
        else:
            cluster = self._scope_chain(Scope.CLUSTER)
            if local := self._settings.local_traffic:
                pods = comment(f"pod traffic for {what}")
                yield rule(pods, source=local.source, interface=local.interface, jump=cluster)
            source_local = "-m addrtype --src-type LOCAL"
            yield rule(comment(f"masquerade LOCAL traffic for {what}"), source_local, jump=names.MARK_MASQ)
            yield rule(comment(f"route LOCAL traffic for {what}"), source_local, jump=cluster)
        if self._it.served_by(scope):
            yield rule(jump=self._scope_chain(scope))

    def _firewall_rules(self, firewalled: list[Frontend]) -> Iterator[str]:
        sources = firewalled[0].sources
        text, accept = comment(f"{self._name} loadbalancer IP"), f"KUBE-EXT-{self._hash}"
        for network in sources:
            yield rule(text, source=network, jump=accept)
        node_ip = self._settings.node_ip
        if node_ip and any(contains(network, node_ip) for network in sources):
            # The node reaches the address from the address itself where that is bound to it.
            for one in firewalled:
                yield rule(text, source=host(one.address or ""), jump=accept)
        yield rule(comment(f"other traffic to {self._name} will be dropped by {names.PROXY_FIREWALL}"))

    def _masquerade_rules(self, scope: Scope) -> Iterator[str]:
        """The rule that marks traffic from outside the cluster to the ClusterIP, in the chain that serves it."""
        for one in self._it.frontends:
            if one.kind is Kind.CLUSTER_IP and one.scope is scope and one.masquerade is not Masquerade.NEVER:
                text = f"{self._name} cluster IP"
                local = self._settings.local_traffic
                if one.masquerade is Masquerade.ALWAYS or local is None:
                    yield self._address_rule(one, text, jump=names.MARK_MASQ)
                elif local.source:
                    yield self._address_rule(one, text, jump=names.MARK_MASQ, source=f"! {local.source}")
                else:
                    yield self._address_rule(one, text, jump=names.MARK_MASQ, interface=f"! {local.interface}")

    def _balance_rules(self, endpoints: tuple[Endpoint, ...]) -> Iterator[str]:
        chains = [self._endpoint_chain[endpoint] for endpoint in endpoints]
        texts = [self._endpoint_comment(f"{self._name} -> {endpoint}") for endpoint in endpoints]
        if self._it.affinity is not None:
            for chain, text in zip(chains, texts, strict=True):
                seen = recent(chain, self._settings.family, check_seconds=self._it.affinity)
                yield rule(text, seen, jump=chain)
        for left, (chain, text) in zip(range(len(chains), 0, -1), zip(chains, texts, strict=True), strict=True):
            yield rule(text, probability(left) if left > 1 else "", jump=chain)

    def _endpoint_rules(self, endpoint: Endpoint) -> Iterator[str]:
        text = self._endpoint_comment(self._name)
        yield rule(text, source=host(endpoint.ip), jump=names.MARK_MASQ)
        chain = self._endpoint_chain[endpoint]
        note = recent(chain, self._settings.family) if self._it.affinity is not None else ""
        target = f"DNAT --to-destination {endpoint}"
        yield rule(text, note, port(self._protocol), protocol=self._protocol, jump=target)

    def _endpoint_comment(self, text: str) -> str:
        return comment(text) if self._settings.comments else ""
