"""The node's rules with those of its service proxy exchanged for what kpx would make; everybody else's as they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from kpx.kernel.ipset import Entry, Header
from kpx.kernel.ipvs.types import RealServer, Virtual, VirtualServer
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.intervals import found
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import TableName
from kpx.kernel.routes import Route
from kpx.net import Family, contains
from kpx.proxier.iptables import names
from kpx.proxier.iptables.compare import is_ours
from kpx.proxier.iptables.skeleton import JUMPS
from kpx.proxier.ipvs.skeleton import CHAINS as IPVS_CHAINS
from kpx.proxier.ipvs.skeleton import JUMPS as IPVS_JUMPS
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.nftables.skeleton import BASE_CHAINS
from kpx.trace.facts import Facts
from kpx.trace.iptables_rules import IptablesRule
from kpx.trace.nft_rules import NftRule
from kpx.trace.outcome import Base, Hook, Rule
from kpx.trace.packet import Packet
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.rules import KernelRules
from kpx.whatif.made import Made, targets

_PROXY_TABLES = ("kpx", "kube-proxy")
_NATIVE = "nftables"
_PRIORITIES = {("nat", "POSTROUTING"): 100, ("nat", "PREROUTING"): -100, ("nat", "OUTPUT"): -100}
_HOOKS = {hook.name: hook for hook in Hook}
_PROXY_TARGETS = {one for one in targets((*JUMPS, *IPVS_JUMPS)) if one[1] != names.FIREWALL}
# A table that is made now is the last one of all.
_LAST = 1 << 62


class SupposedRules:
    """`Rules`: those of the kernel, but the service proxy's. `kind` is the variant of iptables that kpx would use."""

    def __init__(self, kernel: KernelRules, made: Made, family: Family, kind: str, facts: Facts) -> None:
        self._kernel = kernel
        self._made = made
        self._table = Settings(family).table
        self._kind = kind
        self._facts = facts
        self._added = self._bases()

    def bases(self, hook: Hook) -> Sequence[Base]:
        others = [base for base in self._kernel.bases(hook) if not _is_table_of_proxy(base)]
        return [*others, *(base for base in self._added if base.hook is hook)]

    def chain(self, base: Base, name: str) -> Sequence[Rule]:
        if base.table == str(self._table) and base.kind == _NATIVE:
            return [NftRule(self._table, rule, self._facts) for rule in self._made.rules.get(name, ())]
        if base.kind == _NATIVE:
            return self._kernel.chain(base, name)
        ours = base.kind == self._kind and (base.table, name) in self._made.chains
        if ours:
            return self._texts(self._made.chains[base.table, name])
        if _is_chain_of_proxy(base.table, name):
            return []
        there = () if base in self._added and name == base.chain else self._kernel.chain(base, name)
        return self._jumping(base, there) if name == base.chain else there

    def _texts(self, rules: Sequence[str]) -> list[Rule]:
        return [IptablesRule(f"-A X {rule}", self._facts) for rule in rules]

    def _jumping(self, base: Base, rules: Sequence[Rule]) -> Sequence[Rule]:
        """A built-in chain: the jumps to the proxy's chains stay where they are; those that lack come first."""
        due = {jump.to: jump for jump in self._made.jumps if (jump.table, jump.chain) == (base.table, base.chain)}
        if base.kind != self._kind:
            due = {}
        kept: list[Rule] = []
        for rule in rules:
            target = rule.text.rpartition("-j ")[2].split(" ")[0]
            if (base.table, target) not in _PROXY_TARGETS:
                kept.append(rule)
            elif target in due:
                kept += self._texts([due.pop(target).rule])
        return [*self._texts([jump.rule for jump in reversed(due.values())]), *kept]

    def _bases(self) -> list[Base]:
        """The base chains that would come: kpx's own in nftables, built-in ones that the kernel does not have yet."""
        if self._made.rules:
            return [
                Base(
                    _HOOKS[chain.hook.point.name],
                    str(self._table),
                    name,
                    chain.hook.priority,
                    nat=chain.hook.type == "nat",
                    order=_LAST,
                )
                for name, chain in BASE_CHAINS.items()
                if chain.hook
            ]
        there = {(base.kind, base.table, base.chain) for hook in Hook for base in self._kernel.bases(hook)}
        wanted = dict.fromkeys((jump.table, jump.chain) for jump in self._made.jumps)
        return [
            Base(
                _HOOKS[chain],
                table,
                chain,
                _PRIORITIES.get((table, chain), 0),
                nat=table == "nat",
                order=_LAST,
                kind=self._kind,
            )
            for table, chain in wanted
            if (self._kind, table, chain) not in there
        ]


def _is_table_of_proxy(base: Base) -> bool:
    return base.kind == _NATIVE and base.table.rpartition(" ")[2] in _PROXY_TABLES


def _is_chain_of_proxy(table: str, chain: str) -> bool:
    return chain != names.FIREWALL and (is_ours(table, chain) or (table, chain) in IPVS_CHAINS)


class SupposedFacts(KernelFacts):
    """`Facts`: those of the kernel, but for the sets, servers and addresses that kpx would make.

    `bound` are the addresses that a service proxy has on its device now: in another mode they would be gone.
    """

    def __init__(self, nft: Nft, made: Made, family: Family, bound: Collection[str], beyond: str) -> None:
        """`beyond` is an address outside, where packets to an address of nobody's go."""
        super().__init__(nft)
        self._made = made
        self._family = family
        self._table = Settings(family).table
        self._unbound = frozenset(bound) - made.bound
        self._beyond = beyond

    def route(self, packet: Packet) -> Route:
        if packet.destination in self._made.bound:
            return Route("local", "lo", source=packet.destination)
        if packet.destination in self._unbound:
            packet = replace(packet, destination=self._beyond)
        if packet.source in self._made.bound and not packet.incoming:
            # The kernel does not have this address of the node's yet.
            return self._routing.route(packet.destination, mark=packet.mark)
        return super().route(packet)

    def route_to(self, destination: str) -> Route:
        if destination in self._made.bound:
            return Route("local", "lo", source=destination)
        return super().route_to(self._beyond if destination in self._unbound else destination)

    def address_type(self, address: str) -> str:
        if address in self._made.bound:
            return "local"
        return "unicast" if address in self._unbound else super().address_type(address)

    def nft_set(self, table: TableName, name: str) -> Set | None:
        if table != self._table:
            return super().nft_set(table, name)
        return self._made.sets[name][0] if name in self._made.sets else None

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        if table != self._table:
            return super().element(table, name, key)
        return found(*self._made.sets[name], key) if name in self._made.sets else None

    def ipset(self, name: str) -> Header | None:
        if name not in self._made.ipsets:
            return super().ipset(name)
        kind, entries = self._made.ipsets[name]
        family = self._family if kind.startswith("hash") else None
        return Header(name, kind, family, len(entries), 1)

    def in_ipset(self, name: str, entry: Entry) -> bool:
        if name not in self._made.ipsets:
            return super().in_ipset(name, entry)
        kind, entries = self._made.ipsets[name]
        if not kind.endswith("net"):
            return entry in entries
        address = entry.second.partition("/")[0]
        return any(one[:3] == entry[:3] and contains(one.second, address) for one in entries)

    def virtual_server(self, virtual: Virtual) -> VirtualServer | None:
        server = self._made.servers.get(virtual)
        return VirtualServer(virtual, server.settings) if server else None

    def real_servers(self, virtual: Virtual) -> Sequence[RealServer]:
        server = self._made.servers.get(virtual)
        return [RealServer(one) for one in server.reals] if server else ()

    def keeps_conntrack(self) -> bool:
        return True
