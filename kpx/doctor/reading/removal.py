"""How a rule, or a policy, that a trace has met is taken away, and brought back: for whichever program made it."""

from __future__ import annotations

import shlex

from kpx.doctor.facts import Removal
from kpx.doctor.finding import Command
from kpx.kernel.iptables.program import LOCK_SECONDS, Iptables, IptablesError, Variant, legacy_tables, programs
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.trace.iptables_text import split_line
from kpx.trace.nft_rules import still_text
from kpx.trace.result import Hop

_FAMILIES = {"ip": NfFamily.IP, "ip6": NfFamily.IP6, "inet": NfFamily.INET}
_TABLES = ("raw", "mangle", "nat", "filter", "security")


def find(family: Family, hop: Hop) -> Removal | None:
    """The commands; None if the rule is not there any more."""
    if hop.table in _TABLES:
        return next((found for one in Variant if (found := _in_iptables(programs(family, one), hop))), None)
    return _in_nftables(hop)


def _in_iptables(found: Iptables | None, hop: Hop) -> Removal | None:
    if found is None or (found.variant is Variant.LEGACY and hop.table not in legacy_tables(found.family)):
        return None
    base = (found.program(), "-w", str(LOCK_SECONDS), "-t", hop.table)
    if not hop.rule:
        policy = Removal(((*base, "-P", hop.chain, "ACCEPT"),), ((*base, "-P", hop.chain, "DROP"),))
        return policy if _drops(found, hop) else None
    try:
        rules = [split_line(line).rule for line in found.listed(hop.table, hop.chain)]
    except IptablesError:
        return None
    if hop.rule not in rules:
        return None
    words = tuple(shlex.split(hop.rule))
    place = str(rules.index(hop.rule) + 1)
    return Removal(((*base, "-D", hop.chain, *words),), ((*base, "-I", hop.chain, place, *words),))


def _drops(found: Iptables, hop: Hop) -> bool:
    """Whether this variant is the one whose policy drops."""
    try:
        return any(line.startswith(f":{hop.chain} DROP") for line in found.save(hop.table))
    except IptablesError:
        return False


def _in_nftables(hop: Hop) -> Removal | None:
    family, _, name = hop.table.partition(" ")
    table = TableName(_FAMILIES[family], name)
    if not hop.rule:
        accept, drop = (_policy(hop, word) for word in ("accept", "drop"))
        return Removal((accept,), (drop,))
    with Nft() as nft:
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
