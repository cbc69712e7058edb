"""The rules of a node in one family, read chain by chain as the walk reaches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kpx.kernel.iptables.program import IptablesError, Variant, legacy_tables, programs
from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.entries import Entry
from kpx.kernel.nft.objects import Chain, Policy, TableFlag
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.trace.facts import Facts
from kpx.trace.iptables_rules import IptablesRule
from kpx.trace.nft_rules import NftRule
from kpx.trace.outcome import Base, Hook, Rule

# The tables of iptables, and the priorities at which its legacy variant hangs them.
TABLES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_NAT_SOURCE = 100
_HOOKS = {hook.name: hook for hook in Hook}
NF_FAMILY = {Family.IPV4: NfFamily.IP, Family.IPV6: NfFamily.IP6}
_SERVICE_CHAIN = "KUBE-SERVICES"
_LEGACY, _NFT, _NATIVE = "iptables-legacy", "iptables-nft", "nftables"
_PROXY_TABLES = ("kpx", "kube-proxy")


class Printer(Protocol):
    """Prints the rules of one variant of iptables, as its programs do. Both raise `IptablesError`."""

    def saved(self, table: str) -> str:
        """A table, as ``iptables-save -c`` has it."""

    def listed(self, table: str, chain: str) -> list[str]:
        """The rules of a chain, with their counters."""


@dataclass(frozen=True, slots=True)
class Printers:
    """Who prints the rules of iptables in one family: None for a variant that is not installed.

    ``tables`` are those that the legacy interface has.
    """

    legacy: Printer | None
    tables: Sequence[str]
    nft: Printer | None


def printers_here(family: Family) -> Printers:
    """The programs of this node."""
    legacy = programs(family, Variant.LEGACY)
    return Printers(legacy, legacy_tables(family) if legacy else (), programs(family, Variant.NFT))


class KernelRules:
    """`Rules` of the network namespace of the thread that makes it, or of another that `nft` and `printers` know."""

    def __init__(self, family: Family, nft: Nft, facts: Facts, printers: Printers | None = None) -> None:
        self._family = family
        self._nft = nft
        self._facts = facts
        known = printers or printers_here(family)
        self._legacy = _LegacyTables(known)
        self._translated = known.nft
        self._chains: dict[tuple[str, str, str], Sequence[Rule]] = {}
        self._names: dict[str, TableName] = {}
        self._bases = [*self._legacy_bases(), *self._nft_bases()]

    def bases(self, hook: Hook) -> Sequence[Base]:
        return [base for base in self._bases if base.hook is hook]

    def chain(self, base: Base, name: str) -> Sequence[Rule]:
        asked = base.kind, base.table, name
        if asked not in self._chains:
            self._chains[asked] = self._read(base, name)
        return self._chains[asked]

    def base(self, table: TableName | str, chain: str) -> Base | None:
        """A base chain of a table of nf_tables, or (by its bare name) of a legacy table; None if there is none."""
        for base in self._bases:
            named = base.table if base.kind == _LEGACY else self._names[base.table]
            if base.chain == chain and named == table:
                return base
        return None

    def by_handle(self, base: Base, name: str) -> dict[int, str]:
        """The rules of a chain of nf_tables, by the kernel's numbers for them. They are read anew each time."""
        rules = self._read(base, name)
        handles = self._nft.handles(self._names[base.table], name)
        if len(handles) != len(rules):  # the chain has changed in between
            return {}
        return {handle: rule.text for handle, rule in zip(handles, rules, strict=True)}

    def proxies(self) -> list[str]:
        """Whose rules of Services are there: ``iptables-nft``, ``nftables (table kpx)`` and so on."""
        found = []
        for kind in (_LEGACY, _NFT):
            nat = [base for base in self._bases if base.kind == kind and base.nat and base.hook in _DESTINATION_HOOKS]
            if any(_leads_to_services(self.chain(base, base.chain)) for base in nat):
                found.append(kind)
        tables = dict.fromkeys(base.table for base in self._bases if base.kind == _NATIVE)
        found += [f"nftables (table {table})" for table in tables if table.partition(" ")[2] in _PROXY_TABLES]
        return found

    def _legacy_bases(self) -> list[Base]:
        return [
            Base(
                hook=_HOOKS[chain],
                table=table,
                chain=chain,
                priority=_NAT_SOURCE if table == "nat" and _HOOKS[chain] in _SOURCE_HOOKS else TABLES[table],
                nat=table == "nat",
                accepts=policy != "DROP",
                kind=_LEGACY,
            )
            for table in self._legacy.names
            if table in TABLES
            for chain, policy in self._legacy.built_in(table).items()
        ]

    def _nft_bases(self) -> list[Base]:
        try:
            tables = {entry.table: entry for entry in self._nft.tables()}
        except NetlinkError:  # a kernel without nf_tables
            return []
        families = (NF_FAMILY[self._family], NfFamily.INET)
        present = {table.family for table in tables}
        entries = [entry for family in families if family in present for entry in self._nft.base_chains(family)]
        return [
            self._nft_base(entry, tables[entry.table].handle)
            for entry in entries
            if entry.table in tables and not tables[entry.table].value.flags & TableFlag.DORMANT
            if entry.value.hook is not None and entry.value.hook.point.name in _HOOKS
        ]

    def _nft_base(self, entry: Entry[Chain], handle: int) -> Base:
        hook = entry.value.hook
        assert hook is not None
        of_iptables = (
            self._translated is not None
            and entry.table.family is not NfFamily.INET
            and entry.table.name in TABLES
            and entry.value.name in _HOOKS
        )
        table = entry.table.name if of_iptables else str(entry.table)
        self._names[table] = entry.table
        return Base(
            hook=_HOOKS[hook.point.name],
            table=table,
            chain=entry.value.name,
            priority=hook.priority,
            nat=hook.type == "nat",
            accepts=hook.policy is Policy.ACCEPT,
            order=handle,
            kind=_NFT if of_iptables else _NATIVE,
        )

    def _read(self, base: Base, name: str) -> Sequence[Rule]:
        if base.kind == _LEGACY:
            return [IptablesRule(line, self._facts) for line in self._legacy.rules(base.table, name)]
        if base.kind == _NFT and self._translated is not None:
            try:
                return [IptablesRule(line, self._facts) for line in self._translated.listed(base.table, name)]
            except IptablesError:
                pass  # somebody put rules of nftables into it, which iptables cannot print
        table = self._names[base.table]
        return [NftRule(table, entry.value, self._facts) for entry in self._nft.rules(table, name)]


_SOURCE_HOOKS = (Hook.INPUT, Hook.POSTROUTING)
_DESTINATION_HOOKS = (Hook.PREROUTING, Hook.OUTPUT)


def _leads_to_services(rules: Sequence[Rule]) -> bool:
    return any(rule.text.endswith(f"-j {_SERVICE_CHAIN}") for rule in rules)


class _LegacyTables:
    """The tables of the legacy kernel interface: each is printed once, and its chains are found in the text."""

    def __init__(self, known: Printers) -> None:
        self.names = known.tables
        self._programs = known.legacy
        self._texts: dict[str, str] = {}

    def built_in(self, table: str) -> dict[str, str]:
        """The policies of the built-in chains."""
        policies = {}
        for line in _heads(self._text(table)):
            name, policy, *_ = line[1:].split(" ")
            if policy != "-" and name in _HOOKS:
                policies[name] = policy
        return policies

    def rules(self, table: str, chain: str) -> list[str]:
        """The lines of a chain; all of them are in a row."""
        text, mark = self._text(table), f"] -A {chain}"
        found = []
        at = self._first(text, mark)
        while at >= 0:
            start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            found.append(text[start:end])
            following = text.find("]", end, text.find("\n", end + 1))
            at = following if following >= 0 and _continues(text, following, mark) else -1
        return found

    @staticmethod
    def _first(text: str, mark: str) -> int:
        at = text.find(mark)
        while at >= 0 and not (text[at + len(mark)] in " \n" and text[text.rfind("\n", 0, at) + 1] == "["):
            at = text.find(mark, at + 1)
        return at

    def _text(self, table: str) -> str:
        if table not in self._texts:
            assert self._programs is not None
            self._texts[table] = self._programs.saved(table)
        return self._texts[table]


def _heads(text: str) -> list[str]:
    """The lines of the chains: they are in front of all rules."""
    end = text.find("\n[")
    return [line for line in text[: end if end >= 0 else len(text)].splitlines() if line.startswith(":")]


def _continues(text: str, at: int, mark: str) -> bool:
    return text.startswith(mark, at) and text[at + len(mark)] in " \n"
