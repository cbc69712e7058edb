"""The iptables rules of ipvs mode against what the tables hold -> the edit that mends them.

Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from kpx.kernel.iptables.tables import Tables, digest
from kpx.proxier.iptables.edit import Edit
from kpx.proxier.iptables.footprint import Footprint
from kpx.proxier.iptables.names import is_service_chain
from kpx.proxier.iptables.render import Line
from kpx.proxier.ipvs.names import SERVICES
from kpx.proxier.ipvs.skeleton import CHAINS, JUMPS, Chains

_JUMPED_FROM = {(jump.table, jump.chain) for jump in JUMPS}


FOOTPRINT = Footprint(JUMPS, lambda table, chain: (table, chain) in CHAINS)


def concerns(table: str, chain: str, lost: bool) -> bool:
    """Whether a change of a chain may be a change of our rules: of a built-in one, if it lost a rule."""
    return (table, chain) in CHAINS or (lost and (table, chain) in _JUMPED_FROM)


def built_in(chain: str) -> bool:
    """Whether a comparison needs the text of a chain's rules: a digest does for our own."""
    return not chain.startswith("KUBE-")


class Comparison(NamedTuple):
    """The edits that make the tables hold our chains and the jumps to them, and each difference in words.

    ``last`` is to be made when the virtual servers are there: it takes away the rules by which mode iptables serves.
    """

    first: Edit
    last: Edit
    differences: list[str]


def compare(kernel: Tables, wanted: Chains) -> Comparison:
    """Compare the tables with what they should hold."""
    first, last, told = Edit(), Edit(), []
    served = any(is_service_chain(chain) for chain in kernel.table("nat"))
    for (table, chain), rules in wanted.items():
        found = kernel.table(table).get(chain)
        if found is None or found.count != len(rules) or found.digest != digest(rules):
            edit = last if served and (table, chain) == ("nat", SERVICES) else first
            edit.rewrite(table, chain, rules)
            told.append(f"chain {chain} of table {table} {'was missing' if found is None else 'had other rules'}")
    missing = [jump for jump in JUMPS if jump.rule not in kernel.rules(jump.table, jump.chain)]
    first.add(Line(jump.table, jump.chain, jump.rule) for jump in reversed(missing))
    told += [f"rule was missing: -t {jump.table} -A {jump.chain} {jump.rule}" for jump in missing]
    return Comparison(first, last, told)


def between(before: Chains, now: Chains) -> Edit:
    """The edit from chains as they are to chains as they should be."""
    edit = Edit()
    for (table, chain), rules in now.items():
        if before[table, chain] != rules:
            edit.rewrite(table, chain, rules)
    return edit
