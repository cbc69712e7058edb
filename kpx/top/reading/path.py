"""The static path of a packet to a service port, walked again and again for its counters."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from kpx.kernel.iptables.program import IptablesError
from kpx.net import Family
from kpx.proxier.frontends import Frontend, Frontends
from kpx.tools.kernel import Port
from kpx.top.snapshot import Traced, TraceWish
from kpx.trace.comparison import differences
from kpx.trace.questions import Question, Wanted
from kpx.trace.reading.kernel import CannotTrace, trace_here
from kpx.trace.reading.senders import UnknownSender
from kpx.trace.result import Hop, Trace
from kpx.trace.target import Target

_Place = tuple[str, str, str]


class Path:
    """The last trace that was asked for, walked again."""

    def __init__(self) -> None:
        self._last: tuple[TraceWish, float, dict[_Place, int]] | None = None

    def read(self, wish: TraceWish, ports: Sequence[Port], *, told: bool) -> Traced:
        """Walk it now; `ports` are the service port in each family, which somebody has `told`, or only the kernel."""
        questions = questions_of(ports)
        if not questions:
            return Traced(wish, "", None, error="this service port has no address here")
        question = questions[wish.address % len(questions)]
        try:
            trace = trace_here(question.target, wish.sender)
        except (CannotTrace, UnknownSender, IptablesError, OSError) as error:
            return Traced(wish, str(question.target), None, error=str(error))
        wrong: tuple[str, ...] = ()
        if told and question.wanted:
            wrong = tuple(one.text for one in differences(question.wanted, trace))
        now, counted = time.monotonic(), dict(counters(trace))
        rates: dict[_Place, float] = {}
        if self._last and self._last[0] == wish and now > self._last[1]:
            before = self._last[2]
            rates = {
                place: grown(before[place], count) / (now - self._last[1])
                for place, count in counted.items()
                if place in before
            }
        self._last = wish, now, counted
        return Traced(wish, str(question.target), trace, rates, wrong)


def grown(before: int, after: int) -> int:
    """By how much the counter of one rule grew; one that began anew counts from zero."""
    return after - before if after >= before else after


def questions_of(ports: Iterable[Port]) -> list[Question]:
    """Where packets for a service port are sent: its addresses in each family, with what is wanted there. Pure."""
    return [
        Question(_target(family, one, frontend), Wanted(one, frontend))
        for family, one in ports
        for frontend in one.frontends
    ]


def _target(family: Family, one: Frontends, frontend: Frontend) -> Target:
    return Target(frontend.address or "", frontend.port, frontend.protocol.lower(), str(one.port), family)


def counters(trace: Trace) -> Iterator[tuple[_Place, int]]:
    """The counter of each rule on the path. Pure."""
    hops: Iterable[Hop] = (*trace.hops, *(hop for branch in trace.branches for hop in branch.hops))
    for hop in hops:
        if hop.packets is not None:
            yield (hop.table, hop.chain, hop.rule), hop.packets
