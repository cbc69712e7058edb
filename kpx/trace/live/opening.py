"""Which sources a trace has on this node: first what listens, then what marks packets."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack

from kpx.kernel import sysctl
from kpx.kernel.conntrack_events import Wanted
from kpx.kernel.iptables.program import IptablesError, legacy_tables
from kpx.kernel.nflog import LOGGER, GroupTaken
from kpx.kernel.nft.errors import TransactionRefused
from kpx.kernel.undo import Undo
from kpx.net import Family
from kpx.trace.live.sources import LegacySource, Marking, NamesOf, NftSource, Source, TrackingSource, mark_by_rules
from kpx.trace.live.wanted import Senders

_ANNOUNCES = "net/netfilter/nf_conntrack_events"
# What kernels say that have no nftables, or none for these families.
_NO_NFTABLES = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL, errno.ENOENT)


class Sources:
    """The sources, in the order in which they are to be read; ``changes`` and ``notes`` as `tracer.LiveTrace` has them.

    What conntrack has said at some time is of packets whose reports are there as well by then: it is read first.
    """

    def __init__(
        self, wanted: Sequence[Wanted], senders: Senders, rate: int, names: NamesOf, undo: Undo, stack: ExitStack
    ) -> None:
        """All that is opened is closed by the `stack`, all that is changed taken back by `undo`."""
        self.notes: list[str] = []
        self.changes: list[str] = []
        self._wanted, self._senders, self._rate = wanted, senders, rate
        self._names, self._undo, self._stack = names, undo, stack
        self._families = list(dict.fromkeys(one.family for one in wanted))
        self._tracking = TrackingSource(wanted)
        self.all: list[Source] = []
        self._add(self._tracking)
        if sysctl.path(_ANNOUNCES).exists() and not sysctl.read_int(_ANNOUNCES):
            self.notes.append(f"Flows are told late, since conntrack announces nothing: {_ANNOUNCES} is 0.")
        try:
            marking = Marking(wanted, senders, rate, undo)
        except TransactionRefused as error:
            if error.errno not in _NO_NFTABLES:
                raise
            self._without_nftables()
        else:
            stack.callback(marking.close)
            self._with_nftables(marking)

    def _add(self, source: Source) -> None:
        self._stack.callback(source.close)
        self.all.append(source)

    def _with_nftables(self, marking: Marking) -> None:
        """Its mark is that of legacy tables, too."""
        self.changes.append(f"table {marking.table} marks packets")
        self._add(NftSource(marking.table, self._names))
        legacy = [family for family in self._families if legacy_tables(family)]
        try:
            if legacy:
                self._log(legacy)
        except GroupTaken as error:
            self.notes.append(f"Rules of legacy iptables are not shown: {error}.")

    def _log(self, families: Sequence[Family]) -> None:
        source = LegacySource(families, self._names, self._undo)
        self._add(source)
        self.changes += [f"{name} is {LOGGER}" for name in source.settings]

    def _without_nftables(self) -> None:
        try:
            self._log(self._families)
            number = mark_by_rules(self._wanted, self._senders, self._rate, self._undo)
            self.changes.append(f"{number} rules -j TRACE of iptables, table raw, mark packets")
        except (GroupTaken, IptablesError) as error:
            self._tracking.begins = True
            self.notes.append(f"Flows are shown without rules: {error}.")
