"""What others do to our table, as the kernel reports it: which objects, and which program did it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kpx.kernel.netlink import Overrun
from kpx.kernel.nft.entries import Name, SetElements
from kpx.kernel.nft.listener import Changed, Committed, Event, Listener, Removed
from kpx.kernel.nft.objects import Chain, Rule, Table
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import TableName

_KINDS = {Table: "table", Chain: "chain", Rule: "rule", Set: "set"}
# Distinct changes that are told in full.
_TOLD = 5


class Watch:
    """Listens to changes of one table by others than the connection with netlink port `own_port`."""

    def __init__(self, table: TableName, own_port: int) -> None:
        self._table = table
        self._listener = Listener(ignored_port=own_port)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def changes(self) -> str | None:
        """What was changed since the last call, and by whom, in words; or None."""
        told: list[str] = []
        uncommitted: Counter[str] = Counter()
        for event in self._received():
            if event is None:
                told.append("so much was changed that the kernel's reports of it were lost")
            elif isinstance(event, Committed):
                if uncommitted:
                    told.append(f"{_sentence(uncommitted)} by {event.program}[{event.pid}]")
                uncommitted.clear()
            elif event.subject.table == self._table:
                uncommitted.update([_described(event)])
        if uncommitted:
            told.append(_sentence(uncommitted))
        return "; ".join(told) or None

    def _received(self) -> Iterator[Event | None]:
        """The events that are there; None where some were lost."""
        while True:
            try:
                events = self._listener.receive(0)
            except Overrun:
                yield None
                continue
            if not events:
                return
            yield from events


# The greatest loss first.
_ORDER = ("table", "chain", "set", "rule", "elements")


def _described(event: Changed | Removed) -> str:
    """What a change is."""
    done = "removed" if isinstance(event, Removed) else "added"
    subject = event.subject
    if isinstance(subject, SetElements):
        return f"elements of {subject.set} {done}"
    if isinstance(subject, Name):
        name = f"in chain {subject.name}" if subject.kind == "rule" else subject.name
        return f"{subject.kind} {name} {done}"
    value = subject.value
    name = f"in chain {value.chain}" if isinstance(value, Rule) else getattr(value, "name", subject.table.name)
    return f"{_KINDS[type(value)]} {name} {done}"


def _sentence(counted: Counter[str]) -> str:
    ordered = sorted(counted.items(), key=lambda item: _ORDER.index(item[0].split()[0]))
    parts = [what if count == 1 else f"{what} ({count} times)" for what, count in ordered[:_TOLD]]
    more = len(ordered) - _TOLD
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
