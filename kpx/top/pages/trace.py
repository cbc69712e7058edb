"""The static path of a packet as a tree, with the counters of its rules."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from kpx.net import join_port
from kpx.top import words
from kpx.top.glyphs import Glyphs
from kpx.top.lines import Line, Span, line
from kpx.top.snapshot import Counted, Followed, Traced
from kpx.trace.live.flow import Flow
from kpx.trace.live.text import render
from kpx.trace.result import Branch, Hop, Result, Trace, Verdict
from kpx.trace.text import SIGNS, Style, ending_words, news, plain_rule, share_words, short_ending

SENDERS = ("", "pod", "node", "external")
_GOOD = (Verdict.SENT, Verdict.DELIVERED)
_MARKS = {Result.MISSED: "faint", Result.UNKNOWN: "warn"}


def lines(
    traced: Traced | None, width: int, glyphs: Glyphs, *, every_hop: bool = False, counted: Counted | None = None
) -> list[Line]:
    """The whole page; what was `counted` of the endpoints stands beside the ways to them."""
    if traced is None:
        return [line(Span("walking through the rules ...", "faint"))]
    if traced.trace is None:
        return [*_wrapped(traced.error, width, "bad")]
    tree = _Tree(traced, width, glyphs, every_hop, counted)
    wrong = [line for text in traced.wrong for line in _wrapped(f"{glyphs.alarm} {text}", width, "bad")]
    return [*_head(traced.trace, width), *wrong, (), *tree.lines()]


def live_lines(followed: Followed, width: int) -> list[Line]:
    """What a live trace sees, the newest first."""
    if followed.error:
        return [*_wrapped(followed.error, width, "bad")]
    changed = f"; until it ends: {', '.join(followed.changes)}" if followed.changes else ""
    made = [*_wrapped(f"LIVE: {followed.seen} flows{changed}", width, "key")]
    for note in followed.notes:
        made += _wrapped(note, width, "warn")
    if not followed.flows:
        made.append(line(Span("waiting for a new flow ...", "faint")))
    for flow in followed.flows:
        made += [(), *(line(Span(text, "title" if at == 0 else "")) for at, text in enumerate(_flow(flow, width)))]
    return made


def _flow(flow: Flow, width: int) -> list[str]:
    return render(flow, Style(width)).splitlines()


def _head(trace: Trace, width: int) -> Iterator[Line]:
    target, sender = trace.target, trace.sender
    where = f"{target.protocol} {join_port(trace.destination, target.port)}"
    yield line(Span(where, "title"), f"  {target.name}")
    by = f", in by {sender.interface}" if sender.interface else ""
    note = f" ({sender.note})" if sender.note else ""
    yield from _wrapped(f"from {sender.kind} {sender.address}{by}{note}; rules: {', '.join(trace.proxies)}", width)
    for text in trace.notes:
        yield from _wrapped(text, width, "warn")


class _Tree:
    """The paths, which part where the rules leave it to chance."""

    def __init__(self, traced: Traced, width: int, glyphs: Glyphs, every_hop: bool, counted: Counted | None) -> None:
        assert traced.trace is not None
        self._trace, self._rates = traced.trace, traced.rates
        self._width, self._glyphs, self._every_hop = width, glyphs, every_hop
        self._counts = counted.counts.get(traced.wish.port, {}) if counted else {}
        self._endpoint_rates = counted.endpoint_rates.get(traced.wish.port, {}) if counted else {}

    def lines(self) -> Iterator[Line]:
        branches = self._trace.branches
        yield from self._hops(self._trace.hops, "")
        if len(branches) == 1:
            yield from self._hops(branches[0].hops, "")
            yield from self._ending(branches[0], "")
            return
        for at, branch in enumerate(branches):
            last = at == len(branches) - 1
            stem = self._glyphs.last if last else self._glyphs.branch
            following = "   " if last else self._glyphs.stem
            title = f"{share_words(branch)}: {short_ending(branch.ending)}{self._connections(branch)}"
            yield from self._text(title, stem, following, "title")
            yield from self._hops(branch.hops, following)
            yield from self._ending(branch, following)

    def _connections(self, branch: Branch) -> str:
        """The new connections that its endpoint got, by whatever address of the Service."""
        at = branch.ending.destination, branch.ending.port
        if at not in self._counts:
            return ""
        rate = self._endpoint_rates.get(at, 0.0)
        return f"  [{words.number(self._counts[at])} connections, {words.rate(rate)}/s]"

    def _hops(self, hops: Sequence[Hop], stem: str) -> Iterator[Line]:
        place = ""
        for hop in hops:
            if not (hop.telling or self._every_hop):
                continue
            here = " ".join(filter(None, (hop.hook, hop.table, hop.chain)))
            if here != place:
                place = here
                yield line(Span(stem, "faint"), Span(here, "faint"))
            yield from self._hop(hop, stem)

    def _hop(self, hop: Hop, stem: str) -> Iterator[Line]:
        rule, note = plain_rule(hop.rule), news(hop)
        if hop.result is Result.ROUTED:
            rule, note = f"{rule}: {note}", ""
        text = (rule or note) + self._count(hop)
        yield from self._text(text, f"{stem}  {SIGNS[hop.result]} ", f"{stem}      ", _MARKS.get(hop.result, ""))
        if rule and note:
            yield from self._text(note, f"{stem}      -> ", f"{stem}         ", "")

    def _count(self, hop: Hop) -> str:
        if hop.packets is None:
            return ""
        rate = self._rates.get((hop.table, hop.chain, hop.rule))
        return f"  [{words.number(hop.packets)} packets{f', {words.rate(rate)}/s' if rate is not None else ''}]"

    def _ending(self, branch: Branch, stem: str) -> Iterator[Line]:
        ending = branch.ending
        mark = "good" if ending.verdict in _GOOD else "warn" if ending.verdict is Verdict.UNDECIDED else "bad"
        text = f"{ending.verdict.value.upper()}: {ending_words(ending)}"
        yield from self._text(text, f"{stem}=> ", f"{stem}   ", mark)

    def _text(self, text: str, first: str, following: str, mark: str) -> Iterator[Line]:
        room = max(self._width - len(first), 20)
        parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
        for at, part in enumerate(parts):
            yield line(Span(first if at == 0 else following, "faint"), Span(part, mark))


def _wrapped(text: str, width: int, mark: str = "") -> Iterator[Line]:
    for part in textwrap.wrap(text, width, break_on_hyphens=False):
        yield line(Span(part, mark))
