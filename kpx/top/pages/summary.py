"""The head of every screen: who and where, how it stands, and what needs attention."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kpx.top import words
from kpx.top.glyphs import Glyphs, sparkline
from kpx.top.lines import Line, Span, joined, line
from kpx.top.snapshot import Snapshot

_TIGHT, _FULL = 0.8, 0.95
_SOON_SECONDS = 3600.0
# How long a change waits to be programmed before that is worth a word, and how long what others did stays one.
_LATE_SECONDS, _RECENT_SECONDS = 10.0, 300.0


class Alarm(NamedTuple):
    """Something that needs attention: ``bad`` or ``warn``, and what it is in a few words."""

    mark: str
    text: str


def alarms(found: Snapshot) -> list[Alarm]:
    """What needs attention, the worst first."""
    every = [*_of_rules(found), *_of_conntrack(found), *_of_syncs(found)]
    return sorted(every, key=lambda one: one.mark != "bad")


def _of_rules(found: Snapshot) -> Iterator[Alarm]:
    differences = found.differences
    if differences.of_all:
        yield Alarm("bad", "rules of all Services differ")
    if number := len(differences.by_port):
        yield Alarm("bad", f"rules of {number} differ")


def _of_conntrack(found: Snapshot) -> Iterator[Alarm]:
    if found.table is None:
        return
    usage = found.table.usage
    used = usage.entries / usage.limit if usage.limit else 0.0
    if used >= _TIGHT:
        yield Alarm("bad" if used >= _FULL else "warn", f"conntrack {used:.0%} full")
    elif usage.seconds_to_full is not None and usage.seconds_to_full < _SOON_SECONDS:
        yield Alarm("warn", f"conntrack full in {words.duration(usage.seconds_to_full)}")
    for name, what in (("drop", "conntrack drops"), ("insert_failed", "insert failures")):
        if (rate := usage.statistics_per_second.get(name, 0.0)) > 0:
            yield Alarm("bad", f"{what} {words.rate(rate)}/s")


def _of_syncs(found: Snapshot) -> Iterator[Alarm]:
    for state in found.syncs.families if found.syncs else ():
        if state.error:
            yield Alarm("bad", f"{state.family.value} sync fails")
        pending = words.moment(state.pending_since)
        if pending is not None and found.wall - pending > _LATE_SECONDS:
            yield Alarm("warn", f"{state.family.value} changes wait {words.duration(found.wall - pending)}")
    recent = [
        one
        for one in (found.syncs.syncs if found.syncs else ())
        if one.drift and found.wall - (words.moment(one.ended) or 0.0) < _RECENT_SECONDS
    ]
    if recent:
        yield Alarm("warn", "rules changed by others")
    if found.stock and found.stock.new_failures:
        yield Alarm("bad", f"{found.stock.new_failures} failed syncs")
    if found.stock and found.stock.queued > found.stock.last and found.wall - found.stock.queued > _LATE_SECONDS:
        yield Alarm("warn", f"changes wait {words.duration(found.wall - found.stock.queued)}")


def head(found: Snapshot, width: int, glyphs: Glyphs, *, paused: bool = False) -> list[Line]:
    """Two lines: where, and how it stands."""
    node = found.node
    here = [Span("kpx top", "title"), Span(node.name or "...", "title")]
    here += [Span("PAUSED", "key")] * paused
    here += [Span(words.clock(found.wall or None))]
    here += [Span(f"mode {node.mode}")] * bool(node.mode)
    here += [Span(f"from {_source(found)}")] * bool(found.wall)
    here += [Span(node.proxier)] * bool(node.proxier)
    return [joined(here, width), joined(_standing(found, width, glyphs), width)]


_SOURCES = {"daemon": "the daemon", "api": "the API", "manifests": "manifests", "kernel": "the kernel alone"}


def _source(found: Snapshot) -> str:
    return _SOURCES.get(found.node.source, "nobody")


def _standing(found: Snapshot, width: int, glyphs: Glyphs) -> Iterator[Span]:
    for one in alarms(found):
        yield Span(f"{glyphs.alarm} {one.text}", one.mark)
    last = _last_sync(found)
    if last is not None:
        yield Span(f"synced {words.duration(max(found.wall - last, 0.0))} ago")
    if found.table is not None:
        usage = found.table.usage
        used = f"{100 * usage.entries / usage.limit:.1f}%" if usage.limit else words.number(usage.entries)
        yield Span(f"conntrack {used}")
        if width >= 100:
            yield Span(sparkline(found.table.history, 12, glyphs), "bar")
    without = sum(one.row.without_endpoints for one in found.services)
    if not found.wall:
        yield Span("reading ...", "faint")
        return
    yield Span(f"{len(found.services)} service ports")
    if without:
        yield Span(f"{without} without endpoints", "warn")
    if found.counted is not None:
        yield Span(f"{words.rate(sum(found.counted.rates.values()))} conn/s")
        if found.counted.every > 2:
            yield Span(f"counted every {words.duration(found.counted.every)}", "faint")


def _last_sync(found: Snapshot) -> float | None:
    """When rules were written last, by anybody who tells."""
    if found.syncs is not None:
        return max((time for one in found.syncs.families if (time := words.moment(one.last_success))), default=None)
    return found.stock.last or None if found.stock else None


def notices(found: Snapshot, width: int, glyphs: Glyphs, most: int = 3) -> list[Line]:
    """What could not be read, and what is wrong for all Services; then what is to be said besides. A few lines."""
    told = [(f"{glyphs.alarm} {text}", "bad") for text in (*found.faults, *found.differences.of_all)]
    told += [(f"  {text}", "faint") for text in found.notes]
    lines = [
        line(Span(part, mark))
        for text, mark in told
        for part in textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    ]
    return lines[:most]


def tabs(names: Sequence[tuple[str, bool]], width: int) -> Line:
    """The screens with their keys; the current one is marked, also where there is no colour."""
    roomy = sum(len(name) + 2 for name, _ in names) <= width
    form, gap = (" {} ", "") if roomy else ("{}", " ")
    return joined((Span(form.format(name), "key" if current else "faint") for name, current in names), width, gap)
