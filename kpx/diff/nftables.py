"""Mode nftables of kpx: the elements of each service port, and the chains and sets that they lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kpx.diff import nft_facts
from kpx.diff.difference import Difference, Sort, compare
from kpx.diff.facts import Aspect, Fact, Facts
from kpx.diff.iptables_facts import place
from kpx.diff.layout import Learned, Ports
from kpx.diff.nft_base import chain_differences, hook_differences, learned
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Verdict
from kpx.kernel.nft.objects import TableFlag
from kpx.kernel.nft.sets import unpack
from kpx.kernel.nft.text import rule_text
from kpx.net import Family
from kpx.proxier.frontends import Frontend, Frontends, Kind, ServicePortName
from kpx.proxier.nftables import names
from kpx.proxier.nftables.chains import Rules, WholeSet
from kpx.proxier.nftables.containers import address_key, containers
from kpx.proxier.nftables.layout import Place, Renderer, Spot
from kpx.proxier.nftables.reading import Held, without_counts
from kpx.proxier.nftables.reading import read as read_table
from kpx.proxier.nftables.settings import NF_FAMILIES, Settings
from kpx.proxier.nftables.skeleton import BASE_CHAINS, skeleton_rules
from kpx.proxier.node import LocalTraffic
from kpx.tools.kernel import port_name

# Chains whose rules are told as facts. All others are compared as they are.
_TOLD_CHAINS = ("service-", "local-", "endpoint-", "firewall-")


@dataclass(frozen=True, slots=True)
class _View:
    """Elements, lists of endpoints, chains and sets: those that are wanted, or those that the kernel holds."""

    elements: Mapping[Spot, Element]
    lists: Mapping[Place, Iterable[bytes | None]]
    chains: Mapping[str, Rules]
    sets: Mapping[str, WholeSet]


class NftablesLayout:
    """The `Layout` of kpx's own table."""

    program = "kpx, mode nftables"

    def __init__(self, family: Family, held: Held, pods: LocalTraffic | None) -> None:
        self.family = family
        self._nf = NF_FAMILIES[family]
        self._table = str(Settings(family).table)
        self.sign = f"nftables (table {self._table})"
        self._held = held
        self._pods = pods
        self._sets = containers(self._nf)
        self._kernel = _View(held.spots(self._sets), held.slots(self._sets), held.rules, held.whole_sets(self._sets))
        self._faults: dict[str, list[Difference]] = {}

    @cached_property
    def learned(self) -> Learned:
        marking = (text for chain in self._held.rules if chain.startswith("cluster-") for text in self._texts(chain))
        return learned(marking, self._texts("masquerading"), self._pods)

    @cached_property
    def settings(self) -> Settings:
        """What is wanted is made with these. What depends on the addresses of the node is as it is found."""
        name = self._sets.node_port_ips.name
        shown = tuple(unpack(self._sets.node_port_ips.key, one.key)[0] for one in self._held.elements.get(name, ()))
        restricted = any(f"@{name}" in text for text in self._texts("services"))
        return Settings(
            self.family, self.learned.pods, mark=self.learned.mark, node_ports=shown if restricted else None
        )

    def differences(self, ports: Ports) -> Iterator[Difference]:
        dormant = bool(self._held.table and self._held.table.flags & TableFlag.DORMANT)
        yield from hook_differences(self.family, self._table, BASE_CHAINS, self._held.chains, dormant=dormant)
        skeleton = skeleton_rules(self.settings, self._sets)
        yield from chain_differences(
            self.family,
            self._table,
            {chain: self._rendered(rules) for chain, rules in skeleton.items()},
            {chain: self._texts(chain) for chain in skeleton},
        )
        renderer = Renderer(self.settings, self._sets)
        claimed: set[bytes] = set()
        for port, frontends in ports.items():
            claimed.update(address_key(one.address, one.protocol, one.port) for one in frontends.frontends)
            yield from self._port(port, frontends, renderer)
        yield from self._left_over(claimed)

    def _port(self, port: ServicePortName, frontends: Frontends, renderer: Renderer) -> Iterator[Difference]:
        laid = renderer.layout(frontends)
        elements = {**laid.own, **laid.common}
        wanted = _View(elements, laid.lists, laid.chains, laid.sets)
        if any(self._kernel.elements.get(spot) is None for spot in elements) or not self._alike(wanted, frontends):
            asked, found = self._facts(frontends, wanted, elements), self._facts(frontends, self._kernel, elements)
            yield from compare(self.family, port, asked, found)
        for chain, rules in laid.chains.items():
            if not chain.startswith(_TOLD_CHAINS):
                yield from self._shared(port, chain, rules)

    def _alike(self, wanted: _View, frontends: Frontends) -> bool:
        """Whether all is as it should be, found out quickly: most service ports are."""
        for spot in self._spots(frontends.frontends):
            one, other = wanted.elements.get(spot), self._kernel.elements.get(spot)
            if (one.data if one else None) != (other.data if other else None):
                return False
        for at in self._places(frontends.frontends):
            if Counter(wanted.lists.get(at, ())) != Counter(self._kernel.lists.get(at, ())):
                return False
        return not any(one.sources for one in frontends.frontends) and frontends.affinity is None

    # What both views are read by.

    def _facts(self, frontends: Frontends, view: _View, common: Iterable[Spot]) -> Facts:
        found: Facts = {}
        own = [one.address for one in frontends.frontends if one.sources and one.address]
        for one in frontends.frontends:
            self._frontend_facts(one, view, own, found)
        for name, key in common:
            if (name, key) in view.elements and name in (self._sets.cluster_ips.name, self._sets.hairpin.name):
                found[self._common_fact(name, key)] = Fact("", f"set {self._table} {name}")
        suffix = names.of_port(frontends.port)
        chains = [f"{prefix}{suffix}" for prefix in ("service-", "local-")]
        chains += [f"endpoint-{names.of_endpoint(frontends.port, one)}" for one in frontends.reachable]
        for chain in chains:
            self._chain_facts(chain, view, found)
        return found

    def _common_fact(self, name: str, key: bytes) -> tuple[Aspect, str]:
        if name == self._sets.hairpin.name:
            return Aspect.HAIRPIN, unpack(self._sets.hairpin.key, key)[0]
        return Aspect.RULE, f"{unpack(self._sets.cluster_ips.key, key)[0]} in the set {name}"

    def _spots(self, frontends: Iterable[Frontend]) -> Iterator[Spot]:
        """The elements that addresses and node ports may have: of what is served, of what is refused, of who may."""
        sets = self._sets
        for one in frontends:
            node_port = one.kind is Kind.NODE_PORT
            key = address_key(one.address, one.protocol, one.port)
            yield (sets.node_ports if node_port else sets.service_ips).name, key
            yield (sets.no_endpoint_node_ports if node_port else sets.no_endpoint_services).name, key
            yield sets.firewall_ips.name, key

    def _places(self, frontends: Iterable[Frontend]) -> Iterator[Place]:
        """The lists of endpoints that they may have."""
        for one in frontends:
            node_port = one.kind is Kind.NODE_PORT
            name = (self._sets.node_port_endpoints if node_port else self._sets.endpoints).name
            key = address_key(one.address, one.protocol, one.port)
            yield from (Place(name, key, local) for local in (False, True))

    def _frontend_facts(self, one: Frontend, view: _View, own: Iterable[str], found: Facts) -> None:
        to = place(one.address, one.port, one.protocol)
        forward, refuse, firewall = self._spots([one])
        if element := view.elements.get(forward):
            found[Aspect.ADDRESS, to] = Fact(
                f"its endpoints (chain {_chain(element)})", f"map {self._table} {forward[0]}"
            )
        if element := view.elements.get(refuse):
            value = nft_facts.refusal(element.data)
            found[Aspect.REFUSAL, to] = Fact(value, f"map {self._table} {refuse[0]}")
        if element := view.elements.get(firewall):
            allowed = self._allowed(_chain(element), view, own)
            found[Aspect.SOURCES, f"who may use {to}"] = Fact(allowed, f"map {self._table} {firewall[0]}")
        for at in self._places([one]):
            for data in view.lists.get(at, ()):
                if data is not None:
                    subject = f"{nft_facts.destination(data)} of {to}{' (policy Local)' if at.local else ''}"
                    found[Aspect.ENDPOINT, subject] = Fact("", f"map {self._table} {at.map}")

    def _allowed(self, chain: str, view: _View, own: Iterable[str]) -> str:
        """Whom a chain of source ranges lets pass, in words."""
        name = chain.replace("firewall-", "sources-", 1)
        if not any(f"saddr != @{name} drop" in text for text in self._rendered(view.chains.get(chain, ()))):
            return "everybody"
        sources = view.sets.get(name)
        return nft_facts.allowed(nft_facts.networks(sources.elements) if sources else (), own)

    def _chain_facts(self, chain: str, view: _View, found: Facts) -> None:
        """The facts of a chain of session affinity."""
        for one in view.chains.get(chain, ()):
            text = nft_facts.plain(rule_text(self._nf, without_counts(one)))
            if chain.startswith("endpoint-"):
                facts = [nft_facts.endpoint(chain, text)]
            else:
                facts = list(nft_facts.choice(chain, text, lambda _: (), lambda name: _seconds(view, name)))
            for fact in facts:
                aspect, subject, value = fact or (Aspect.RULE, f"rule '{text}'", "")
                found[aspect, subject] = Fact(value, f"chain {self._table} {chain}", text)

    # The kernel's side.

    def _shared(self, port: ServicePortName, chain: str, rules: Rules) -> Iterator[Difference]:
        """What is wrong with a chain that many service ports use, for one of them."""
        if chain not in self._faults:
            asked, found = self._rendered(rules), self._texts(chain)
            where = f"chain {self._table} {chain}"
            self._faults[chain] = [
                Difference(self.family, port, sort, Aspect.RULE, text, told.format(text), where, rule=text)
                for sort, told, more in (
                    (Sort.MISSING, "rule '{}' is missing in the chain that serves it", Counter(asked) - Counter(found)),
                    (Sort.EXTRA, "rule '{}' is in the chain that serves it", Counter(found) - Counter(asked)),
                )
                for text in more
            ]
        for one in self._faults[chain]:
            yield Difference(one.family, port, one.sort, one.aspect, one.subject, one.text, one.where, rule=one.rule)

    def _left_over(self, claimed: set[bytes]) -> Iterator[Difference]:
        """Elements of addresses and node ports that no Service has."""
        sets = self._sets
        for (name, key), element in self._kernel.elements.items():
            of_address = name in (sets.service_ips.name, sets.no_endpoint_services.name, sets.firewall_ips.name)
            of_node_port = name in (sets.node_ports.name, sets.no_endpoint_node_ports.name)
            if key in claimed or not (of_address or of_node_port):
                continue
            *address, protocol, number = unpack((sets.node_ports if of_node_port else sets.service_ips).key, key)
            to = place(address[0] if address else None, int(number), protocol)
            port = port_name(element.comment, protocol) if element.comment else None
            value = f"the chain {_chain(element)}" if _chain(element) else "drop"
            fact = {(Aspect.ADDRESS, to): Fact(value, f"map {self._table} {name}")}
            yield from compare(self.family, port, {}, fact)

    def _texts(self, chain: str) -> list[str]:
        return self._rendered(self._held.rules.get(chain, ()))

    def _rendered(self, rules: Rules) -> list[str]:
        return [nft_facts.plain(rule_text(self._nf, without_counts(one))) for one in rules]


def _chain(element: Element) -> str:
    return element.data.chain if isinstance(element.data, Verdict) else ""


def _seconds(view: _View, clients: str) -> int:
    """How long the clients of an endpoint are remembered: the rule that notes them says it."""
    for one in view.chains.get(clients.replace("affinity-", "endpoint-", 1), ()):
        for expression in one.expressions:
            if timeout := getattr(expression, "timeout", 0):
                return int(timeout) // 1000
    return 0


def read(nft: Nft, family: Family, pods: LocalTraffic | None) -> NftablesLayout:
    """The table of one family. Raises `GenerationChanged`."""
    return NftablesLayout(family, read_table(nft, Settings(family).table), pods)
