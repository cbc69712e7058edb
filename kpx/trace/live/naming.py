"""What the rules say that the kernel reports by their numbers: the text as its own program prints it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress

from kpx.kernel import nflog
from kpx.kernel.iptables.program import IptablesError
from kpx.kernel.nft import tracing
from kpx.kernel.nft.wire import TableName
from kpx.trace.live.met import Met, met_policy, met_rule
from kpx.trace.outcome import Base
from kpx.trace.reading.rules import KernelRules

_GONE = "(a rule that is gone)"
_RULE, _POLICY = "rule", "policy"
_MOST_PACKETS = 10_000


class Names:
    """The rules of one family. `read` makes a picture of them as they are now; what that lacks is read anew.

    A handle of nf_tables always means the same rule, a place in a legacy chain does not: `fingerprint` changes with the
    legacy tables, which `look` sees.
    """

    def __init__(self, read: Callable[[], KernelRules], fingerprint: Callable[[], object]) -> None:
        self._read = read
        self._fingerprint = fingerprint
        self._refresh()
        # The base chain that a packet was last in. Legacy reports do not number packets: their headers tell them apart.
        self._bases: OrderedDict[Hashable, Base] = OrderedDict()
        self._texts: dict[tuple[TableName, str], dict[int, str]] = {}

    def _refresh(self) -> None:
        self._seen = self._fingerprint()
        self._rules = self._read()
        self._stale = False

    def look(self) -> None:
        """See whether the legacy tables have changed. They are read when the next packet comes."""
        self._stale = self._stale or self._fingerprint() != self._seen

    def of_nft(self, step: tracing.Step) -> Met | None:
        """What a packet met; None for the end of a chain, and for a base chain that is gone."""
        base = self._base(step.packet, step.table, step.chain, begins=step.headers is not None)
        if base is None:
            return None
        if step.kind is tracing.Kind.POLICY:
            return met_policy(base, accepts=step.verdict != "drop", mark=step.mark)
        if not step.handle:
            return None
        return met_rule(base, step.chain, self._of_handle(base, step), step.verdict, step.mark)

    def of_legacy(self, step: nflog.Step) -> Met | None:
        """What a packet met; None for the end of a chain, and for a base chain that is not known."""
        if self._stale:
            self._refresh()
        base = self._base((step.table, step.headers), step.table, step.chain, begins=False)
        if base is None:
            return None
        if step.kind == _POLICY:
            return met_policy(base, accepts=base.accepts, mark=step.mark)
        if step.kind != _RULE:
            return None
        return met_rule(base, step.chain, self._of_place(base, step), mark=step.mark)

    def _base(self, packet: Hashable, table: TableName | str, chain: str, *, begins: bool) -> Base | None:
        """The base chain that a packet is in: a new one, or the one that has led to this chain."""
        found = self._rules.base(table, chain)
        if found is None and begins:
            self._refresh()
            found = self._rules.base(table, chain)
        if found is None:
            return self._bases.get(packet)
        self._bases[packet] = found
        self._bases.move_to_end(packet)
        if len(self._bases) > _MOST_PACKETS:
            self._bases.popitem(last=False)
        return found

    def _of_handle(self, base: Base, step: tracing.Step) -> str:
        known = self._texts.setdefault((step.table, step.chain), {})
        if step.handle not in known:
            with suppress(IptablesError, OSError):
                known |= self._rules.by_handle(base, step.chain)
        return known.setdefault(step.handle, _GONE)

    def _of_place(self, base: Base, step: nflog.Step) -> str:
        rules = self._rules.chain(base, step.chain)
        if step.number > len(rules):
            self._refresh()
            rules = self._rules.chain(base, step.chain)
        return rules[step.number - 1].text if step.number <= len(rules) else _GONE
