"""What the kernel holds against what it should hold -> the edit that mends it.

Pure: works on the tables as read, for a full sync of any starting state: nothing there, kube-proxy's rules, our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kpx.kernel.iptables.tables import Chain, Tables, digest
from kpx.proxier.iptables import names
from kpx.proxier.iptables.edit import Edit
from kpx.proxier.iptables.footprint import Footprint
from kpx.proxier.iptables.render import Line, PortRules
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.iptables.skeleton import JUMPS, LOCALNET_RULE, SHARED, firewall_rule, fixed_chains, is_tail, tail

_OURS = {
    "mangle": {names.CANARY},
    "filter": {*SHARED["filter"], names.FORWARD, names.FIREWALL, names.CANARY},
    "nat": {*SHARED["nat"], names.POSTROUTING, names.MARK_MASQ, names.CANARY},
}
_JUMPED_FROM = {(jump.table, jump.chain) for jump in JUMPS}

# Differences that are told one by one; a first sync has as many as there are rules.
_NOTED = 20


def is_ours(table: str, chain: str) -> bool:
    """Whether a chain is of this mode."""
    return chain in _OURS.get(table, ()) or (table == "nat" and names.is_service_chain(chain))


FOOTPRINT = Footprint(JUMPS, is_ours, (Line("filter", names.FIREWALL, LOCALNET_RULE),))


def concerns(table: str, chain: str, lost: bool) -> bool:
    """Whether a change of a chain may be a change of our rules: of a built-in one, if it lost a rule."""
    return is_ours(table, chain) or (lost and (table, chain) in _JUMPED_FROM)


def keep_text(chain: str) -> bool:
    """Whether the comparison needs the text of a chain's rules (a digest does for all others)."""
    return not names.is_service_chain(chain)


class Comparison:
    """A full comparison: the skeleton, each service port in turn, then what is left over."""

    def __init__(self, kernel: Tables) -> None:
        self._kernel = kernel
        self._nat = kernel.table("nat")
        self._lines = {
            (table, chain): Counter(rule for rule in kernel.rules(table, chain) if not is_tail(rule))
            for table, chains in SHARED.items()
            for chain in chains
        }
        self._chains = {chain for chain in self._nat if names.is_service_chain(chain)}
        self._noted: list[str] = []
        self._count = 0

    @property
    def count(self) -> int:
        """The number of differences found so far."""
        return self._count

    @property
    def differences(self) -> tuple[str, ...]:
        """What was missing, different or left over, in words: the first of many, then how many more."""
        more = self._count - len(self._noted)
        return (*self._noted, f"and {more} more") if more else tuple(self._noted)

    def _note(self, what: str) -> None:
        self._count += 1
        if len(self._noted) < _NOTED:
            self._noted.append(what)

    def skeleton(self, settings: Settings) -> Edit:
        """What is missing or different of the chains that exist whatever Services there are."""
        edit = Edit()
        fixed = fixed_chains(settings)
        shared = {(table, chain): () for table, chains in SHARED.items() for chain in chains}
        for (table, chain), rules in {**fixed, **shared, ("filter", names.FIREWALL): ()}.items():
            found = self._kernel.table(table).get(chain)
            if found is None or ((table, chain) in fixed and found.digest != digest(rules)):
                edit.rewrite(table, chain, rules)
                self._note(_chain_was(chain, found, table))
        missing = [jump for jump in JUMPS if jump.rule not in self._kernel.rules(jump.table, jump.chain)]
        edit.add(self._missing(Line(jump.table, jump.chain, jump.rule) for jump in reversed(missing)))
        if (rule := firewall_rule(settings)) and rule not in self._kernel.rules("filter", names.FIREWALL):
            edit.append(self._missing([Line("filter", names.FIREWALL, rule)]))
        self._tail(edit, settings)
        return edit

    def _tail(self, edit: Edit, settings: Settings) -> None:
        """The way to the node ports must come last: add what is missing there, remove what is elsewhere or unwanted."""
        wanted, found = tail(settings), self._kernel.rules("nat", names.SERVICES)
        present = [rule for rule in found if is_tail(rule)]
        if tuple(found[len(found) - len(wanted) :]) != wanted or len(present) != len(wanted):
            edit.append(self._missing(Line("nat", names.SERVICES, rule) for rule in wanted))
            edit.remove(Line("nat", names.SERVICES, rule) for rule in present)

    def _missing(self, lines: Iterable[Line]) -> list[Line]:
        """The lines, noted as missing."""
        missing = list(lines)
        for line in missing:
            self._note(f"rule was missing: -t {line.table} -A {line.chain} {line.rule}")
        return missing

    def port(self, rules: PortRules) -> Edit:
        """What the kernel lacks of one service port."""
        edit = Edit()
        for chain, wanted in rules.chains.items():
            self._chains.discard(chain)
            found = self._nat.get(chain)
            if found is None or found.count != len(wanted) or found.digest != digest(wanted):
                edit.rewrite("nat", chain, wanted)
                self._note(_chain_was(chain, found))
        edit.add(self._missing(line for line in rules.lines if not self._take(line)))
        return edit

    def _take(self, line: Line) -> bool:
        found = self._lines[line.table, line.chain]
        if not found[line.rule]:
            return False
        found[line.rule] -= 1
        return True

    def leftovers(self) -> Edit:
        """What no service port asked for."""
        edit = Edit()
        surplus = [Line(*where, rule) for where, rules in self._lines.items() for rule in rules.elements()]
        for line in surplus:
            self._note(f"rule was left over: -t {line.table} -A {line.chain} {line.rule}")
        edit.remove(surplus)
        for chain in sorted(self._chains):
            self._note(f"chain {chain} was left over")
            edit.delete("nat", chain)
        return edit


def _chain_was(name: str, found: Chain | None, table: str = "nat") -> str:
    where = name if table == "nat" else f"{name} of table {table}"
    return f"chain {where} {'was missing' if found is None else 'had other rules'}"
