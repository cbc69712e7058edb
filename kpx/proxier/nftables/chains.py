"""The chains that serve frontends: a few that all service ports of one size share, and those of session affinity.

A frontend's map element leads to one of them. Its rules find the endpoint in a map by the packet's own address and a
random slot, so that a chain depends on nothing but how many slots there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Cmp, CmpOp
from kpx.kernel.nft.intervals import interval_elements, merged
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.rules import (
    Action,
    counter,
    dnat,
    dnat_to,
    drop,
    eq,
    goto,
    map_to,
    mark_or,
    ne,
    not_among,
    rule,
    update,
)
from kpx.kernel.nft.rules import among as listed_in
from kpx.kernel.nft.selectors import Selector, daddr, fib_saddr_type, iifname, l4proto, numgen_random, saddr
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.proxier.frontends import Endpoint, Masquerade, ServicePortName
from kpx.proxier.nftables import names
from kpx.proxier.nftables.containers import LOCAL_LIST, Containers, key_selectors
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.nftables.slots import attempts
from kpx.proxier.node import LocalTraffic

Rules = tuple[Rule, ...]
Terms = tuple[Selector | Action, ...]

# As many clients of one endpoint are remembered, and no more.
_AFFINITY_CLIENTS = 65535


@dataclass(frozen=True, slots=True)
class WholeSet:
    """A set with all its elements, where these are not a service port's each."""

    set: Set
    elements: tuple[Element, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a map element leads: a chain, with all the chains and sets that it needs, itself among them."""

    chain: str
    chains: Mapping[str, Rules]
    sets: Mapping[str, WholeSet] = field(default_factory=dict)


def pods_match(local: LocalTraffic, source: Selector, *, negate: bool = False) -> Terms:
    """What tells the packets of pods (or, negated, all others)."""
    if local.source:
        return (source, ne(local.source) if negate else eq(local.source))
    if not local.interface.endswith("+"):
        return (iifname, ne(local.interface) if negate else eq(local.interface))
    # nft compares only the bytes of a prefix: `iifname "pod-*"`.
    prefix = Cmp(CmpOp.NE if negate else CmpOp.EQ, local.interface[:-1].encode())
    return (iifname, Action(lambda _: (prefix,)))


class Chains:
    """Makes the chains of one family; those that are shared are made once."""

    def __init__(self, settings: Settings, containers: Containers) -> None:
        self._settings = settings
        self._containers = containers
        self._family = settings.nf_family
        self._source = saddr(self._family)
        self._mark = mark_or(settings.mark)
        self._shared: dict[str, Target] = {}

    def shared(self, name: str, make: Callable[[], Target]) -> Target:
        """What `make` makes, made once for each name."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    # Balancing.

    def balance(self, size: int, *, local: bool = False, node_port: bool = False) -> Target:
        """To one of the slots of the list; `size` is their capacity."""
        name = f"{'np-' if node_port else ''}lb-{'local-' if local else ''}{size}"
        return self.shared(name, lambda: self._balance(name, size, local=local, node_port=node_port))

    def _balance(self, name: str, size: int, *, local: bool, node_port: bool) -> Target:
        table = self._containers.node_port_endpoints if node_port else self._containers.endpoints
        key = key_selectors(self._family, node_port=node_port)
        offset = LOCAL_LIST if local else 0

        def pick(among: int) -> Rule:
            return rule(name, *key, numgen_random(among, offset), map_to(table.name), dnat(self._family))

        # A slot may be missing, or have gone since the packet came here: then the next rule draws again.
        return Target(name, {name: (*[pick(size)] * attempts(size), pick(1))})

    def remember(
        self, port: ServicePortName, endpoints: Sequence[Endpoint], seconds: int, *, local: bool = False
    ) -> Target:
        """To the endpoint that a client had before, if it came back in time, or else to any: session affinity."""
        name = f"{'local' if local else 'service'}-{names.of_port(port)}"
        made = [self._remembered(port, endpoint, seconds) for endpoint in endpoints]
        known = [rule(name, self._source, listed_in(found), goto(each.chain)) for each in made for found in each.sets]
        last = len(made) - 1
        drawn = [
            rule(name, numgen_random(len(made) - at), eq(0), goto(each.chain)) for at, each in enumerate(made[:last])
        ]
        return _target(name, (*known, *drawn, rule(name, goto(made[last].chain))), *made)

    def _remembered(self, port: ServicePortName, endpoint: Endpoint, seconds: int) -> Target:
        identity = names.of_endpoint(port, endpoint)
        name, clients = f"endpoint-{identity}", f"affinity-{identity}"
        declared = Set(
            clients, (daddr(self._family).type,), flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT, size=_AFFINITY_CLIENTS
        )
        translate = dnat_to(endpoint.ip, endpoint.port)
        rules = (
            rule(name, self._source, update(clients, seconds * 1000)),
            rule(name, l4proto, eq(port.protocol.lower()), counter(), translate),
        )
        return Target(name, {name: rules}, {clients: WholeSet(declared)})

    # What comes before it.

    def cluster(self, name: str, target: Target, masquerade: Masquerade) -> Target:
        """A ClusterIP: traffic from outside the cluster (or all) is marked for masquerading."""
        match: Terms = ()
        if masquerade is not Masquerade.ALWAYS:
            if masquerade is Masquerade.NEVER or self._settings.local_traffic is None:
                return target
            match = pods_match(self._settings.local_traffic, self._source, negate=True)
        return _target(name, (rule(name, *match, self._mark), rule(name, goto(target.chain))), target)

    def external(self, name: str, target: Target) -> Target:
        """An outside address with policy Cluster: everything is marked."""
        return _target(name, (rule(name, self._mark), rule(name, goto(target.chain))), target)

    def external_local(self, name: str, target: Target, local: Target | None) -> Target:
        """An outside address with policy Local: pods and this node use the whole list, others the local one.

        Without a local one they go on untranslated, to the filter that drops them.
        """
        rules: list[Rule] = []
        if self._settings.local_traffic is not None:
            match = pods_match(self._settings.local_traffic, self._source)
            rules.append(rule(name, *match, goto(target.chain), comment="pods are not bound by the policy"))
        here = (fib_saddr_type, eq("local"))
        rules += (
            rule(name, *here, self._mark),
            rule(name, *here, goto(target.chain), comment="this node is not bound by the policy"),
        )
        if local is None:
            return _target(name, tuple(rules), target)
        return _target(name, (*rules, rule(name, goto(local.chain))), target, local)

    def firewall(self, networks: Sequence[str]) -> Target:
        """Lets only these sources pass, and returns; shared by all who have the same ones."""
        identity = names.digest(" ".join(f"{first}-{last}" for first, last in merged(networks)))
        name, sources = f"firewall-{identity}", f"sources-{identity}"
        return self.shared(name, lambda: self._firewall(name, sources, networks))

    def _firewall(self, name: str, sources: str, networks: Sequence[str]) -> Target:
        declared = Set(sources, (daddr(self._family).type,), flags=SetFlag.INTERVAL)
        allowed = WholeSet(declared, tuple(interval_elements(networks)))
        return Target(name, {name: (rule(name, self._source, not_among(sources), drop),)}, {sources: allowed})


def _target(name: str, rules: Rules, *needed: Target) -> Target:
    chains: dict[str, Rules] = {name: rules}
    sets: dict[str, WholeSet] = {}
    for one in needed:
        chains |= one.chains
        sets |= one.sets
    return Target(name, chains, sets)
