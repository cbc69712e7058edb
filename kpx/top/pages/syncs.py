"""What the proxier did: each sync, why, what it changed; and what others did to its rules."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kpx.proxier.published import SyncRecord
from kpx.top import words
from kpx.top.columns import Column
from kpx.top.lines import Line, Span, line
from kpx.top.snapshot import Snapshot, StockSyncs

# Of each sort of thing that is wrong, so many are named, in so many lines.
_MOST = 3


def columns() -> list[Column[SyncRecord]]:
    """The columns of syncs."""
    return [
        Column("TIME", lambda one: words.clock(words.moment(one.ended)), 8, key=lambda one: one.number, largest=True),
        Column("FAMILY", lambda one: one.family.value, 6, rank=1),
        Column("SYNC", lambda one: "full" if one.full else "part", 4, rank=2),
        Column("TOOK", lambda one: words.took(one.seconds), 5, 0, lambda one: one.seconds, 0, True, True),
        Column("CHANGED", lambda one: str(one.changed), 7, 0, lambda one: one.changed, 0, True, True),
        Column("WROTE", lambda one: str(sum(one.written.values())), 6, 0, _wrote, 0, True, True),
        Column("WHAT", what, 14, 200, mark=_painted),
    ]


def _wrote(one: SyncRecord) -> int:
    return sum(one.written.values())


def what(one: SyncRecord) -> str:
    """What is to be said of a sync, the worst first."""
    if one.error:
        return f"FAILED: {one.error}"
    if one.drift:
        return f"DRIFT: {one.drift}"
    if one.repaired:
        return f"REPAIRED: {', '.join(one.repaired)}"
    if one.refused:
        return f"REFUSED: {', '.join(one.refused)}"
    return ", ".join(filter(None, (one.reason, *one.service_ports)))


def _painted(one: SyncRecord) -> str:
    return "bad" if one.error else "warn" if one.drift or one.repaired or one.refused else ""


def search(one: SyncRecord) -> str:
    return f"{one.family.value} {'full' if one.full else 'part'} {what(one)} {' '.join(one.service_ports)}"


def head(found: Snapshot, width: int) -> list[Line]:
    """Where each family stands, and what is left out."""
    if found.syncs is None:
        return [*_stock(found.stock, found.wall)] if found.stock else [line("nobody on this node tells of its syncs")]
    lines: list[Line] = []
    for state in found.syncs.families:
        pending = words.moment(state.pending_since)
        waits = f"a change waits {words.duration(found.wall - pending)}" if pending else "nothing waits"
        last = words.moment(state.last_success)
        ago = f"synced {words.duration(max(found.wall - last, 0))} ago" if last else "not synced yet"
        lines.append(line(Span(state.family.value, "title"), f"  {state.service_ports} service ports, {ago}, {waits}"))
        lines += _told("FAILED", "bad", state.error, width) if state.error else ()
    for rejected in found.syncs.rejected[:_MOST]:
        text = f"{rejected.kind} {rejected.namespace}/{rejected.name}: {rejected.reason}"
        lines += _told("left out", "warn", text, width)
    for lost in found.syncs.conflicts[:_MOST]:
        text = f"{lost.address or '*'}:{lost.port}/{lost.protocol}, by {lost.service_port}, but {lost.owner} has it"
        lines += _told("claimed twice", "warn", text, width)
    return lines


def _told(name: str, mark: str, text: str, width: int) -> Iterator[Line]:
    """A few lines on something that is wrong."""
    for at, part in enumerate(textwrap.wrap(f"{name}: {text}", width, subsequent_indent="  ")[:_MOST]):
        yield line(Span(name, mark), part.removeprefix(name)) if at == 0 else line(part)


def _stock(stock: StockSyncs, wall: float) -> Iterator[Line]:
    last = f"the last {words.duration(wall - stock.last)} ago" if stock.last else "none yet"
    yield line(
        Span("kube-proxy  ", "title"),
        f"{stock.syncs} syncs, {last}, {words.took(stock.mean_seconds)} each on average, {stock.failures} failures",
    )
    if stock.queued > stock.last:
        yield line(Span(f"a change waits {words.duration(wall - stock.queued)}", "warn"))
    yield line(Span("kube-proxy tells no more; kpx lists each sync, and who changed its rules", "faint"))


def details(one: SyncRecord, width: int) -> list[Line]:
    """All of one sync."""
    facts = {
        "number": str(one.number),
        "ended": one.ended,
        "family": one.family.value,
        "kind": "full: all rules were compared" if one.full else "partial: only what changed",
        "why": one.reason,
        "took": words.took(one.seconds),
        "phases": ", ".join(f"{name} {words.took(part)}" for name, part in one.phases.items()),
        "changed": f"{one.changed} service ports",
        "wrote": ", ".join(f"{count} {table}" for table, count in one.written.items()) or "nothing",
        "drift": one.drift,
        "error": one.error,
    }
    lines: list[Line] = []
    for name, value in facts.items():
        if value:
            lines += _wrapped(name, value, width)
    for title, several in (
        ("services", one.service_ports),
        ("repaired", one.repaired),
        ("refused", tuple(f"{port}: {why}" for port, why in one.refused.items())),
    ):
        for at, value in enumerate(several):
            lines += _wrapped(title if at == 0 else "", value, width)
    return lines


def _wrapped(name: str, value: str, width: int) -> Iterator[Line]:
    for at, part in enumerate(textwrap.wrap(value, max(width - 10, 10)) or [""]):
        yield line(Span(f"{name if at == 0 else '':<10}", "title"), part)
