"""Mode nftables of a stock kube-proxy: its table has chains for each service port, and sets inside their rules.

Source: kube-proxy 1.36 in nftables mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from kpx.diff import nft_facts
from kpx.diff.difference import Difference, compare
from kpx.diff.facts import Aspect, Fact, Facts
from kpx.diff.iptables_facts import place
from kpx.diff.layout import Learned, Ports
from kpx.diff.nft_base import chain_differences, hook_differences, learned
from kpx.diff.stock_nftables_wanted import BASE_CHAINS, base_rules, wanted_facts
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Verdict
from kpx.kernel.nft.objects import Chain, TableFlag
from kpx.kernel.nft.sets import Set, unpack
from kpx.kernel.nft.text import rule_text
from kpx.kernel.nft.wire import TableName
from kpx.net import Family
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.nftables import names
from kpx.proxier.nftables.containers import address_key, containers
from kpx.proxier.nftables.settings import NF_FAMILIES
from kpx.proxier.node import LocalTraffic

TABLE = "kube-proxy"
_MAPS = ("service-ips", "service-nodeports", "no-endpoint-services", "no-endpoint-nodeports", "firewall-ips")
_REFUSALS = ("no-endpoint-services", "no-endpoint-nodeports")

Maps = Mapping[str, Mapping[bytes, Element]]


class StockNftablesLayout:
    """The `Layout` of kube-proxy's table."""

    program = "kube-proxy, mode nftables"

    def __init__(
        self,
        family: Family,
        chains: Mapping[str, Chain],
        rules: Mapping[str, list[str]],
        sets: Mapping[str, Set],
        elements: Mapping[str, list[Element]],
        pods: LocalTraffic | None,
        *,
        dormant: bool = False,
    ) -> None:
        """`rules` are the texts of each chain's, without comments; `elements` are by set."""
        self.family = family
        self._table = str(TableName(NF_FAMILIES[family], TABLE))
        self.sign = f"nftables (table {self._table})"
        self._chains = chains
        self._rules = rules
        self._sets = sets
        self._elements = elements
        self._maps: Maps = {name: {one.key: one for one in elements.get(name, ())} for name in _MAPS}
        self._pods = pods
        self._dormant = dormant
        self._keys = containers(NF_FAMILIES[family])

    @cached_property
    def learned(self) -> Learned:
        return learned(self._rules.get("services", ()), self._rules.get("masquerading", ()), self._pods)

    def differences(self, ports: Ports) -> Iterator[Difference]:
        yield from hook_differences(self.family, self._table, BASE_CHAINS, self._chains, dormant=self._dormant)
        wanted = base_rules(self.family, self.learned, restricted="nodeport-ips" in self._sets)
        held = {chain: [text for text in self._rules.get(chain, ()) if not _allowed_besides(text)] for chain in wanted}
        yield from chain_differences(self.family, self._table, wanted, held)
        claimed: set[bytes] = set()
        for port, frontends in ports.items():
            claimed.update(address_key(one.address, one.protocol, one.port) for one in frontends.frontends)
            asked = wanted_facts(frontends, self.learned.pods, self._table)
            yield from compare(self.family, port, asked, self._facts(frontends, asked))
        yield from self._left_over(claimed)

    def _facts(self, frontends: Frontends, asked: Facts) -> Facts:
        found: Facts = {}
        own = names.of_port(frontends.port)
        for one in frontends.frontends:
            key = address_key(one.address, one.protocol, one.port)
            to = place(one.address, one.port, one.protocol)
            virtual = [each.address for each in frontends.frontends if each.sources and each.address]
            for name in _MAPS:
                if (element := self._maps[name].get(key)) is not None:
                    self._element(name, element, to, own, virtual, found)
        for aspect, subject in asked:
            if aspect in (Aspect.HAIRPIN, Aspect.RULE) and (held := self._in_set(asked[aspect, subject])):
                found[aspect, subject] = held
        for chain in self._own_chains(own, frontends):
            self._chain(chain, own, found)
        return found

    def _in_set(self, asked: Fact) -> Fact | None:
        """The same fact where the set that it is about has the element; `rule` holds that as text."""
        return asked if asked.rule in self._set_texts(asked.where.rpartition(" ")[2]) else None

    def _set_texts(self, name: str) -> frozenset[str]:
        if name not in self._texts:
            declared = self._sets.get(name)
            found = self._elements.get(name, ()) if declared else ()
            self._texts[name] = frozenset(" . ".join(unpack(declared.key, one.key)) for one in found if declared)
        return self._texts[name]

    @cached_property
    def _texts(self) -> dict[str, frozenset[str]]:
        return {}

    def _own_chains(self, own: str, frontends: Frontends) -> Iterable[str]:
        yield from (chain for prefix in ("external-", "service-", "local-") if (chain := prefix + own) in self._rules)
        for one in frontends.reachable:
            if (chain := f"endpoint-{names.of_endpoint(frontends.port, one)}") in self._rules:
                yield chain

    def _element(self, name: str, element: Element, to: str, own: str, virtual: Iterable[str], found: Facts) -> None:
        where = f"map {self._table} {name}"
        chain = element.data.chain if isinstance(element.data, Verdict) else ""
        if name in _REFUSALS:
            found[Aspect.REFUSAL, to] = Fact(nft_facts.refusal(element.data), where)
        elif name == "firewall-ips":
            allowed = nft_facts.allowed(self._sources(chain), virtual) if self._restricts(chain) else "everybody"
            found[Aspect.SOURCES, f"who may use {to}"] = Fact(allowed, where)
        else:
            found[Aspect.ADDRESS, to] = Fact(nft_facts.leads(chain, own), where)

    def _restricts(self, chain: str) -> bool:
        return any(text.endswith(" drop") and " != " in text for text in self._rules.get(chain, ()))

    def _sources(self, chain: str) -> list[str]:
        """The networks that a chain of source ranges lets pass."""
        for text in self._rules.get(chain, ()):
            _, negated, value = text.removesuffix(" drop").partition(" != ")
            if negated:
                name = value.removeprefix("@")
                if name == value:
                    return [value]
                return nft_facts.networks(self._elements.get(name, ()))
        return []

    def _chain(self, chain: str, own: str, found: Facts) -> None:
        where = f"chain {self._table} {chain}"
        for text in self._rules[chain]:
            if chain.startswith("external-"):
                facts = [nft_facts.external(text, own)]
            elif chain.startswith("endpoint-"):
                facts = [nft_facts.endpoint(chain, text)]
            else:
                facts = list(nft_facts.choice(chain, text, lambda name: self._elements.get(name, ()), self._seconds))
            for fact in facts:
                aspect, subject, value = fact or (Aspect.RULE, f"rule '{text}'", "")
                found[aspect, subject] = Fact(value, where, text)

    def _seconds(self, name: str) -> int:
        declared = self._sets.get(name)
        return declared.timeout // 1000 if declared else 0

    def _left_over(self, claimed: set[bytes]) -> Iterator[Difference]:
        for name, elements in self._maps.items():
            of_node_port = name in ("service-nodeports", "no-endpoint-nodeports")
            for key, element in elements.items():
                if key not in claimed:
                    kind = (self._keys.node_ports if of_node_port else self._keys.service_ips).key
                    *address, protocol, number = unpack(kind, key)
                    to = place(address[0] if address else None, int(number), protocol)
                    chain = element.data.chain if isinstance(element.data, Verdict) else ""
                    fact = Fact(f"the chain {chain}" if chain else "drop", f"map {self._table} {name}")
                    yield from compare(self.family, _port_of(chain), {}, {(Aspect.ADDRESS, to): fact})


def _allowed_besides(text: str) -> bool:
    """Rules that depend on what is not known here: the networks of ClusterIPs."""
    return text.startswith(("ip daddr ", "ip6 daddr ")) and text.endswith(" drop")


def _port_of(chain: str) -> ServicePortName | None:
    """The service port that a chain's name tells."""
    parts = chain.partition("-")[2].partition("-")[2].split("/")
    if len(parts) != 4:
        return None
    namespace, name, protocol, port = parts
    return ServicePortName(namespace, name, port, protocol.upper())


def read(nft: Nft, family: Family, pods: LocalTraffic | None) -> StockNftablesLayout:
    """The table of one family, in one state of it. Raises `GenerationChanged`."""
    table = TableName(NF_FAMILIES[family], TABLE)

    def whole() -> StockNftablesLayout:
        dormant = any(one.table == table and one.value.flags & TableFlag.DORMANT for one in nft.tables())
        chains = {entry.value.name: entry.value for entry in nft.chains(table)}
        rules: dict[str, list[str]] = {name: [] for name in chains}
        for entry in nft.rules(table):
            rules[entry.value.chain].append(nft_facts.plain(rule_text(table.family, entry.value)))
        sets = {entry.value.name: entry.value for entry in nft.sets(table)}
        elements = {name: nft.elements(table, name) for name in sets if not name.startswith("affinity-")}
        return StockNftablesLayout(family, chains, rules, sets, elements, pods, dormant=dormant)

    return nft.consistent(whole)[1]
