"""What the runbooks have found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kpx.doctor.finding import Finding, Status, shell
from kpx.doctor.shown.text import Style, finding_text
from kpx.doctor.treating import can_be_made
from kpx.top.columns import Column
from kpx.top.lines import Line, Span, line
from kpx.top.snapshot import Examined

_ORDER = (Status.FAIL, Status.WARN, Status.ERROR, Status.INFO, Status.SKIP, Status.PASS)
_MARKS = {Status.FAIL: "bad", Status.WARN: "warn", Status.ERROR: "warn", Status.PASS: "good", Status.SKIP: "faint"}


def columns() -> list[Column[Finding]]:
    """The columns of findings."""
    return [
        Column(
            "STATUS", lambda one: one.status.value.upper(), 7, 0, _severity, mark=lambda one: _MARKS.get(one.status, "")
        ),
        Column("ID", lambda one: one.id, 11, rank=2),
        Column("RUNBOOK", lambda one: one.runbook, 9, 10, rank=3),
        Column("FIX", lambda one: "x" if can_be_made(one.result.fix) else "", 3, rank=4),
        Column("FINDING", says, 20, 300),
    ]


def _mark(one: Finding) -> str:
    return _MARKS.get(one.status, "")


def _severity(one: Finding) -> int:
    return _ORDER.index(one.status)


def says(one: Finding) -> str:
    """What was found, with whom it is about."""
    told = one.result.says or one.title
    subject = one.result.subject
    return f"{subject}: {told}" if subject and subject not in told else told


def search(one: Finding) -> str:
    return f"{one.status.value} {one.id} {one.runbook} {says(one)} {one.title}"


def above(examined: Examined) -> list[Line]:
    """How far it has come, and what was found so far."""
    counted = Counter(one.status for one in examined.findings)
    parts = [Span(f"{counted[status]} {status.value}", _MARKS.get(status, "")) for status in _ORDER if counted[status]]
    lines = [line(*(part for one in parts for part in (one, Span("  "))))] if parts else []
    if examined.doing:
        lines.append(line(Span(f"looking at {examined.doing} ...", "faint")))
    return lines + [line(Span(examined.said, "title"))] * bool(examined.said)


def details(one: Finding, width: int, *, asking: bool) -> Sequence[Line]:
    """All of one finding; with its fix offered, and where somebody is `asking` for it, the question."""
    lines = [line(text) for text in f"{one.title}\n\n{finding_text(one, Style(width, verbose=True))}".splitlines()]
    fix = one.result.fix
    if fix is None or not can_be_made(fix):
        return lines
    if not asking:
        return [*lines, (), line(Span("x makes this fix, after a question", "title"))]
    whose = ", which changes what another program made" if fix.foreign else ""
    asked = [line(Span(f"Run this{whose}?  y: yes, any other key: no", "warn"))]
    return [*asked, *(line(Span(f"  # {shell(command)}", "title")) for command in fix.now), (), *lines]
