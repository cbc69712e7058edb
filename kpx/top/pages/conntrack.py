"""How full the conntrack table is, how that goes on, and whose flows fill it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from kpx.tools.flows import Share, Usage
from kpx.top import words
from kpx.top.columns import cell
from kpx.top.glyphs import Glyphs, gauge, sparkline
from kpx.top.lines import Line, Span, line
from kpx.top.snapshot import Flows, Snapshot, Table

_TOLD = {
    "drop": "new connections dropped: the table is full, or a packet unfit",
    "insert_failed": "entries not made: another packet of the flow was first",
    "early_drop": "entries given up early to make room",
    "search_restart": "lookups begun anew while the table was resized",
}
_FULL, _TIGHT = 0.95, 0.8
_SIDE_BY_SIDE = 76


def lines(found: Snapshot, width: int, glyphs: Glyphs) -> list[Line]:
    """The whole page."""
    if found.table is None:
        return [line(Span("the conntrack table cannot be read here", "bad"))]
    made = [*_filled(found.table, width, glyphs), (), *_counted(found.table.usage, width)]
    if found.flows is None:
        return [*made, (), line(Span("reading whose flows these are ...", "faint"))]
    return [*made, *_shares(found.flows, width, glyphs)]


def numbers(found: Snapshot) -> dict[str, str]:
    """The numbers alone, by name."""
    if found.table is None:
        return {}
    usage, shares = found.table.usage, found.flows
    made = {"entries": f"{usage.entries} of {usage.limit} growth={usage.per_second:+.1f}/s"}
    made |= {name: str(usage.statistics[name]) for name in _TOLD if name in usage.statistics}
    return made | {one.name: f"flows={one.flows}" for one in (shares.services if shares else ())}


def _filled(table: Table, width: int, glyphs: Glyphs) -> Iterator[Line]:
    usage = table.usage
    part = usage.entries / usage.limit if usage.limit else 0.0
    mark = "bad" if part >= _FULL else "warn" if part >= _TIGHT else "bar"
    of = f" of {usage.limit:,} ({part:.1%})" if usage.limit else ", without a limit"
    yield line(Span("entries ", "title"), f"{usage.entries:,}{of}")
    yield line(Span(gauge(part, width, glyphs), mark))
    growth = f"{usage.per_second:+.1f} a second"
    full = words.duration(usage.seconds_to_full)
    yield line(
        Span("growth ", "title"), f"{growth}, full in {full}" if usage.seconds_to_full else f"{growth}, not filling up"
    )
    yield line(Span(sparkline(table.history, width, glyphs), "bar"))


def _counted(usage: Usage, width: int) -> Iterator[Line]:
    """The kernel's counters that tell of trouble."""
    for name, meaning in _TOLD.items():
        if name in usage.statistics:
            rate = usage.statistics_per_second[name]
            mark = "bad" if rate > 0 else ""
            numbers = Span(f"{name:<15}{words.number(usage.statistics[name]):>7}{words.rate(rate):>7}/s", mark)
            explained = Span(f"  {meaning}", "faint")
            yield (numbers, explained) if len(numbers.text) + len(explained.text) <= width else (numbers,)


def _shares(flows: Flows, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """Who has how many flows: two tables side by side where there is room."""
    tables = [
        ("STATES", flows.states),
        ("TOP SERVICES", flows.services),
        ("TOP CLIENTS", flows.clients),
        ("TOP BACKENDS", flows.backends),
    ]
    if width < _SIDE_BY_SIDE:
        for title, shares in tables:
            yield ()
            yield from _table(title, shares, flows.whole, width, glyphs)
        return
    half = (width - 4) // 2
    for left, right in (tables[:2], tables[2:]):
        yield ()
        pair = (list(_table(*one, flows.whole, half, glyphs)) for one in (left, right))
        for first, second in zip_longest(*pair, fillvalue=()):
            taken = sum(len(span.text) for span in first)
            yield (*first, Span(" " * (half - taken + 4)), *second)


def _table(title: str, shares: Sequence[Share], whole: int, width: int, glyphs: Glyphs) -> Iterator[Line]:
    yield line(Span(cell(title, width, glyphs.cut), "heading"))
    if not shares:
        yield line(Span("-", "faint"))
    for one in shares[:10]:
        part = one.flows / whole if whole else 0.0
        yield line(f"{words.number(one.flows):>6} {part:>6.1%}  {cell(one.name, width - 15, glyphs.cut)}")
