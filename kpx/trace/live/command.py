"""``kpx trace --live`` and ``--probe``: from their arguments to what they print and their exit status."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from types import FrameType

from kpx.kernel.iptables.program import IptablesError
from kpx.tools.cluster import Options
from kpx.tools.errors import OK, ToolError, UsageError, reported
from kpx.tools.reader import ended_with_reader
from kpx.trace import questions
from kpx.trace.command import WRONG, notes, printable, style_here
from kpx.trace.live import probe_text
from kpx.trace.live.document import encode
from kpx.trace.live.flow import Outcome
from kpx.trace.live.here import senders_here
from kpx.trace.live.probe import probe
from kpx.trace.live.sending import Answer
from kpx.trace.live.text import render, summary
from kpx.trace.live.tracer import LiveTrace
from kpx.trace.questions import Asked
from kpx.trace.reading.kernel import CannotTrace
from kpx.trace.reading.senders import UnknownSender
from kpx.trace.target import Target

# Without a time-out that was asked for: how long real packets are waited for, and a probe's answer.
_FOLLOW_SECONDS, _PROBE_SECONDS = 60.0, 5.0
_EVERY_ADDRESS = "all"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. ``count`` and ``rate`` (packets a second) are limits, a count of 0 is none.

    ``seconds`` is how long to follow, or to wait for the answer to a probe; 0 is for ever, None the usual time.
    ``path`` is what a probe asks for by HTTP.
    """

    asked: Asked
    live: bool = False
    probe: bool = False
    count: int = 0
    seconds: float | None = None
    rate: int = 100
    path: str = ""
    as_json: bool = False
    every_hop: bool = False


def run(wish: Wish, options: Options) -> int:
    """Print flows as they come, or what became of probes.

    The status is 0 if all were answered, 3 if some were not or none came.
    """
    return reported("trace", lambda: _readable(wish, options))


def _readable(wish: Wish, options: Options) -> int:
    _check(wish)
    try:
        with _ended_by_signals():
            return _probe(wish, options) if wish.probe else _follow(wish, options)
    except UnknownSender as error:
        raise UsageError(str(error)) from error
    except BrokenPipeError:
        raise
    except (CannotTrace, IptablesError, OSError) as error:
        raise ToolError(str(error)) from error


def _check(wish: Wish) -> None:
    if wish.live and wish.probe:
        raise UsageError("--live and --probe exclude each other: a probe is followed anyway")
    if wish.path and not wish.probe:
        raise UsageError("--http belongs to --probe")
    if wish.path and (not wish.path.startswith("/") or not wish.path.isprintable() or " " in wish.path):
        raise UsageError(f"--http takes a path that begins with a slash and has no spaces, not {wish.path!r}")


def _targets(wish: Wish, options: Options) -> list[Target]:
    found = questions.find(wish.asked, options)
    _say(notes(found))
    return [one.target for one in found.questions]


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        print(f"kpx trace: {sentence}", file=sys.stderr)


def _probe(wish: Wish, options: Options) -> int:
    targets = _targets(wish, options)
    if wish.path:
        targets = [one for one in targets if one.protocol == "tcp"]
        if not targets:
            raise UsageError("--http asks by TCP: the target is none of TCP")
    style = style_here(every_hop=wish.every_hop)
    found = []
    for target in targets:
        found.append(probe(target, wish.asked.sender, seconds=wish.seconds or _PROBE_SECONDS, path=wish.path))
        if not wish.as_json:
            print(printable(probe_text.render(found[-1], style)), end="\n" if target is targets[-1] else "\n\n")
    if wish.as_json:
        print(probe_text.encode(found))
    return OK if all(one.got.answer is Answer.ANSWERED for one in found) else WRONG


def _follow(wish: Wish, options: Options) -> int:
    senders = senders_here(wish.asked.sender)
    # Whatever address of a Service its clients use.
    every = replace(wish.asked, via=wish.asked.via or _EVERY_ADDRESS)
    with LiveTrace(_targets(replace(wish, asked=every), options), senders, rate=wish.rate) as trace:
        return _show(trace, wish)


def _show(trace: LiveTrace, wish: Wish) -> int:
    outcomes: Counter[Outcome] = Counter()
    style = style_here(every_hop=wish.every_hop)
    seconds = _FOLLOW_SECONDS if wish.seconds is None else wish.seconds or None
    changed = f"; until the end, {', and '.join(trace.changes)}" if trace.changes else ""
    _say([f"following new flows{changed}", *trace.notes])
    try:
        with ended_with_reader():
            for flow in islice(trace.flows(seconds), wish.count or None):
                outcomes[flow.outcome] += 1
                print(encode(flow) if wish.as_json else printable(render(flow, style)), flush=True)
    except KeyboardInterrupt:
        pass
    _say([summary(outcomes, trace.lost)])
    return OK if outcomes and set(outcomes) == {Outcome.ANSWERED} else WRONG


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Take a termination and a lost terminal as an interrupt, so that all that was changed is taken back."""
    former = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
