"""What the kernel reports on packets that are traced: in nftables, and in the legacy tables of iptables.

A source tells the kernel what it wants, hands over what comes, and takes back what it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from kpx.kernel import nflog, sysctl
from kpx.kernel.conntrack_events import Listener, Wanted
from kpx.kernel.iptables.program import IptablesError, Variant, programs
from kpx.kernel.netlink import Overrun
from kpx.kernel.nft import tracing
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.errors import TransactionRefused
from kpx.kernel.nft.transaction import Transaction
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.kernel.undo import AddedRule, AddedTable, Setting, Undo
from kpx.net import Family
from kpx.trace.live import arming
from kpx.trace.live.assembly import Assembly
from kpx.trace.live.naming import Names
from kpx.trace.live.wanted import Senders

T = TypeVar("T")
NamesOf = Callable[[Family], Names]

_FAMILIES = {int(NfFamily.IP): Family.IPV4, int(NfFamily.IP6): Family.IPV6}
_IN_A_ROW = 2_000


class Source(Protocol):
    """Where reports come from. ``lost`` is how often some were lost, since they came faster than they were read."""

    lost: int

    def fileno(self) -> int: ...

    def close(self) -> None: ...

    def drain(self, assembly: Assembly, now: float) -> None:
        """Hand over all that has come."""


class Marking:
    """A table of nftables that marks packets, for as long as this lives."""

    def __init__(
        self, wanted: Sequence[Wanted], senders: Senders, rate: int, undo: Undo, *, owned: bool = True
    ) -> None:
        """Raises `TransactionRefused` where the kernel has no nftables."""
        self._nft = Nft()
        self.table = arming.table_name(self._nft.port)
        try:
            if not (owned and self._applied(arming.table(self.table, wanted, senders, rate, owned=True))):
                self._without_owner(arming.table(self.table, wanted, senders, rate, owned=False), undo)
        except BaseException:
            self._nft.close()
            raise

    def _applied(self, transaction: Transaction) -> bool:
        try:
            self._nft.apply(transaction)
        except TransactionRefused:
            return False
        return True

    def _without_owner(self, transaction: Transaction, undo: Undo) -> None:
        """For kernels before 5.12: the table stays when its maker is gone."""
        self._nft.check(transaction)
        undo.will(AddedTable(transaction.table.family, transaction.table.name))
        self._nft.apply(transaction)

    def close(self) -> None:
        """The table goes with the connection that made it."""
        self._nft.close()


class NftSource:
    """The reports of nftables on packets that a table has marked."""

    def __init__(self, marking: TableName, names: NamesOf) -> None:
        self._marking = marking
        self._names = names
        self._tracing = tracing.Tracing()
        self.lost = 0

    def fileno(self) -> int:
        return self._tracing.fileno()

    def close(self) -> None:
        self._tracing.close()

    def drain(self, assembly: Assembly, now: float) -> None:
        for steps in received(self, self._tracing.receive):
            for step in steps:
                self._hand_over(step, assembly, now)

    def _hand_over(self, step: tracing.Step, assembly: Assembly, now: float) -> None:
        if step.table.name.startswith(arming.TABLE_PREFIX):
            ours = step.table == self._marking and step.kind is tracing.Kind.RULE and step.handle
            if not ours or step.headers is None:
                return
            if step.chain.startswith(arming.ANSWERS):
                assembly.marked_answer(step.packet, step.flow, step.headers)
            else:
                assembly.marked(step.packet, step.headers, step.incoming, now)
        elif step.family in _FAMILIES and assembly.expects(step.packet, step.headers):
            met = self._names(_FAMILIES[step.family]).of_nft(step)
            assembly.met(step.packet, step.flow, step.headers, met)


class LegacySource:
    """The reports of legacy tables: they come to NFLOG, if this namespace's logger is told so.

    ``settings`` are those that were changed for it.
    """

    def __init__(self, families: Iterable[Family], names: NamesOf, undo: Undo) -> None:
        """Raises `nflog.GroupTaken`."""
        self._names = names
        self._families = tuple(families)
        self._log = nflog.Log()
        self.lost = 0
        try:
            settings = map(nflog.logger_setting, self._families)
            self.settings = [one for one in settings if _log_to_user_space(one, undo)]
        except BaseException:
            self._log.close()
            raise

    def fileno(self) -> int:
        return self._log.fileno()

    def close(self) -> None:
        self._log.close()

    def drain(self, assembly: Assembly, now: float) -> None:
        for family in self._families:
            self._names(family).look()
        for steps in received(self, self._log.receive):
            for step in steps:
                met = self._names(step.family).of_legacy(step)
                assembly.logged(step.headers, step.incoming, met, now)


def _log_to_user_space(setting: str, undo: Undo) -> bool:
    """Whether that had to be changed."""
    former = sysctl.read(setting)
    if former == nflog.LOGGER:
        return False
    undo.will(Setting(setting, former, nflog.LOGGER))
    sysctl.write(setting, nflog.LOGGER)
    return True


def mark_by_rules(wanted: Sequence[Wanted], senders: Senders, rate: int, undo: Undo) -> int:
    """Mark packets by rules in legacy tables raw, until `undo` deletes them: so many. Raises `IptablesError`."""
    number = 0
    for one in wanted:
        found = programs(one.family, Variant.LEGACY)
        if found is None:
            raise IptablesError(
                "iptables-legacy is not installed, and the kernel has no nftables: nothing can be traced"
            )
        for chain, words in arming.tracing_rules(one, senders, rate):
            undo.will(AddedRule(found, "raw", chain, words))
            found.insert("raw", chain, words)
            number += 1
    return number


class TrackingSource:
    """What conntrack says of the connections; if it ``begins`` flows, each new one is a flow by itself."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._listener = Listener(wanted)
        self.begins = False
        self.lost = 0

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()

    def drain(self, assembly: Assembly, now: float) -> None:
        for events in received(self, self._listener.receive):
            for event in events:
                assembly.tracked(event, now, begins=self.begins)


def received(source: Source, receive: Callable[[float], list[T] | None]) -> Iterator[list[T]]:
    """What has come, datagram by datagram; at most so much that a flood does not keep flows from being told."""
    for _ in range(_IN_A_ROW):
        try:
            found = receive(0)
        except Overrun:
            source.lost += 1
            continue
        if found is None:
            return
        yield found
