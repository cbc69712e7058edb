"""How a rule, or a policy, that a trace has met is taken away, and brought back: for whichever program made it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

from kpx.doctor.facts import Removal
from kpx.doctor.finding import Command
from kpx.kernel.iptables.program import LOCK_SECONDS, Iptables, IptablesError, Variant, legacy_tables, programs
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.trace.iptables_text import split_line
from kpx.trace.nft_rules import still_text
from kpx.trace.reading.rules import TABLES, Printer
from kpx.trace.result import Hop

_FAMILIES = {"ip": NfFamily.IP, "ip6": NfFamily.IP6, "inet": NfFamily.INET}


def find(family: Family, hop: Hop) -> Removal | None:
    """The commands; None if the rule is not there any more."""
    there = [one for variant in Variant if (one := programs(family, variant)) and _has(one, hop.table)]
    return find_in([(one.program(), one) for one in there], Nft, hop)


def _has(one: Iptables, table: str) -> bool:
    """Whether a variant has a table: no legacy one is brought into being by looking."""
    return one.variant is not Variant.LEGACY or table in legacy_tables(one.family)


def find_in(printers: Iterable[tuple[str, Printer]], opened: Callable[[], Nft], hop: Hop) -> Removal | None:
    """The same, of rules that these print, each under the name of its program, and that this ruleset has."""
    if hop.table in TABLES:
        return next((found for program, one in printers if (found := _in_iptables(program, one, hop))), None)
    return _in_nftables(opened, hop)


def _in_iptables(program: str, printer: Printer, hop: Hop) -> Removal | None:
    base = (program, "-w", str(LOCK_SECONDS), "-t", hop.table)
    try:
        if not hop.rule:
            policy = Removal(((*base, "-P", hop.chain, "ACCEPT"),), ((*base, "-P", hop.chain, "DROP"),))
            # Of the variant whose policy drops.
            return policy if f"\n:{hop.chain} DROP" in printer.saved(hop.table) else None
        rules = [split_line(line).rule for line in printer.listed(hop.table, hop.chain)]
    except IptablesError:
        return None
    if hop.rule not in rules:
        return None
    words = tuple(shlex.split(hop.rule))
    place = str(rules.index(hop.rule) + 1)
    return Removal(((*base, "-D", hop.chain, *words),), ((*base, "-I", hop.chain, place, *words),))


def _in_nftables(opened: Callable[[], Nft], hop: Hop) -> Removal | None:
    family, _, name = hop.table.partition(" ")
    table = TableName(_FAMILIES[family], name)
    if not hop.rule:
        accept, drop = (_policy(hop, word) for word in ("accept", "drop"))
        return Removal((accept,), (drop,))
    with opened() as nft:
        entries = nft.rules(table, hop.chain)
    for at, entry in enumerate(entries):
        text = still_text(table.family, entry.value)
        if text == hop.rule:
            gone: Command = ("nft", "delete", "rule", family, name, hop.chain, "handle", str(entry.handle))
            last = at == len(entries) - 1
            verb = ("add",) if last else ("insert",)
            index = () if last else ("index", str(at))
            back: Command = ("nft", *verb, "rule", family, name, hop.chain, *index, text)
            return Removal((gone,), (back,))
    return None


def _policy(hop: Hop, word: str) -> Command:
    family, _, name = hop.table.partition(" ")
    return ("nft", "chain", family, name, hop.chain, f"{{ policy {word} ; }}")
