"""A plan as text that fits 80 columns. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kpx.migrate.checks import Check, Status
from kpx.migrate.plan import Plan

_WIDTH = 79
_INDENT = " " * 6
_COLOURS = {Status.FAIL: "\x1b[31m", Status.WARN: "\x1b[33m", Status.PASS: "\x1b[32m", Status.INFO: ""}


def text(plan: Plan, *, colour: bool) -> str:
    """The whole plan; the status of a check is told by a word, and with ``colour`` by its colour too."""
    return "\n".join(_lines(plan, colour))


def _lines(plan: Plan, colour: bool) -> Iterator[str]:
    yield f"From {f'mode {plan.before}' if plan.before else 'no mode that can be told'} to kpx in mode {plan.after}"
    yield ""
    for check in plan.checks:
        yield from _check(check, colour)
    yield from _list("What will differ", plan.changes)
    if not plan.ready:
        yield ""
        yield "NOT READY: see what is marked FAIL."
        return
    yield ""
    yield "READY. In a cluster that kubeadm made (docs/migrate.md has the others):"
    for number, step in enumerate(plan.steps, 1):
        yield from _wrapped(step.what, f"{number:>3}.  ")
        yield f"{_INDENT}{step.command}"
        if step.undo:
            yield f"{_INDENT}back: {step.undo}"


def _check(check: Check, colour: bool) -> Iterator[str]:
    first, *rest = _wrapped(check.found, _INDENT)
    word = f"{check.status.value.upper():<4}"
    if colour and _COLOURS[check.status]:
        word = f"{_COLOURS[check.status]}{word}\x1b[0m"
    yield f"{word}  {first.removeprefix(_INDENT)}"
    yield from rest
    if check.remedy:
        yield from _wrapped(check.remedy, f"{_INDENT}-> ")


def _list(title: str, sentences: tuple[str, ...]) -> Iterator[str]:
    if sentences:
        yield from ("", f"{title}:")
        for one in sentences:
            yield from _wrapped(one, "    - ")


def _wrapped(sentence: str, start: str) -> list[str]:
    return textwrap.wrap(
        sentence, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
    )
