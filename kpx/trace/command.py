"""``kpx trace``: from its arguments to what it prints and its exit status."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from kpx.kernel.iptables.program import IptablesError
from kpx.kernel.undo import leftovers
from kpx.tables.screen import Screen
from kpx.tools.cluster import Cluster, Options
from kpx.tools.errors import OK, ToolError, UsageError, reported
from kpx.trace import questions
from kpx.trace.answer import Answer
from kpx.trace.comparison import differences
from kpx.trace.document import encode
from kpx.trace.questions import Asked, Question, Questions
from kpx.trace.reading.flows import flows_to
from kpx.trace.reading.kernel import CannotTrace, trace_here
from kpx.trace.reading.senders import UnknownSender
from kpx.trace.text import Style, answer_text

Answering = Callable[[Question, str, Cluster | None], Answer]

WRONG, INTERRUPTED = 3, 130
_COLUMNS = 80


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown; ``watch`` is in seconds, None for once."""

    asked: Asked
    as_json: bool = False
    every_hop: bool = False
    watch: float | None = None


def run(wish: Wish, options: Options, answering: Answering | None = None) -> int:
    """Trace and print. The status is 0 if all gets through as the cluster wants it, 3 if not.

    `answering` answers each question in another way than from the kernel as it is.
    """
    return reported("trace", lambda: _readable(wish, options, answering or _from_kernel))


def _readable(wish: Wish, options: Options, answering: Answering) -> int:
    try:
        if options.told is None:
            leftovers()
        if wish.watch is None:
            return _once(wish, options, answering)
        return _again(wish, options, answering, wish.watch)
    except UnknownSender as error:
        raise UsageError(str(error)) from error
    except (CannotTrace, IptablesError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise ToolError(str(error)) from error


def _once(wish: Wish, options: Options, answering: Answering) -> int:
    found = questions.find(wish.asked, options)
    answers = [answering(one, wish.asked.sender, found.cluster) for one in found.questions]
    if wish.as_json:
        print(encode(answers, found.cluster, notes(found)))
    else:
        for note in notes(found):
            print(f"kpx trace: {note}", file=sys.stderr)
        print(_text(answers, style_here(every_hop=wish.every_hop)))
    return OK if all(one.good for one in answers) else WRONG


def _again(wish: Wish, options: Options, answering: Answering, seconds: float) -> int:
    screen = Screen(sys.stdout)
    try:
        while True:
            found = questions.find(wish.asked, options)
            answers = [answering(one, wish.asked.sender, found.cluster) for one in found.questions]
            if wish.as_json:
                print(encode(answers, found.cluster, notes(found), indented=False), flush=True)
            else:
                screen.draw(_text(answers, style_here(every_hop=wish.every_hop)).split("\n"))
            time.sleep(seconds)
    except KeyboardInterrupt:
        return INTERRUPTED


def _from_kernel(question: Question, sender: str, _cluster: Cluster | None) -> Answer:
    return answer(question, sender)


def answer(question: Question, sender: str) -> Answer:
    """The answer to one question, read from this node's kernel. Raises `CannotTrace` and `UnknownSender`."""
    traced = trace_here(question.target, sender)
    wanted = question.wanted
    found = None if wanted is None else tuple(differences(wanted, traced))
    return Answer(question, traced, found, flows_to(traced))


def notes(found: Questions) -> tuple[str, ...]:
    """What is to be said of the answers."""
    return (*found.notes, *(found.cluster.notes if found.cluster else ()))


def _text(answers: list[Answer], style: Style) -> str:
    return printable("\n\n\n".join(answer_text(one, style) for one in answers))


def style_here(*, every_hop: bool) -> Style:
    """How to print here: on this terminal, or into this file."""
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size((_COLUMNS, 24)).columns if terminal else _COLUMNS
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(max(columns, 40), colour, every_hop)


def printable(text: str) -> str:
    """Text that can be printed, whatever bytes others have put into their rules."""
    return text.encode(errors="replace").decode()
