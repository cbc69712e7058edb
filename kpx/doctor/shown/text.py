"""Findings as text of 80 columns, in ASCII; colour only where it is wanted. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kpx.doctor.check import Check, Runbook
from kpx.doctor.finding import Finding, Fix, Place, Status, shell
from kpx.doctor.shown.document import summary
from kpx.doctor.treating import Treated

_WORDS = {
    Status.PASS: ("ok", "32"),
    Status.INFO: ("info", "36"),
    Status.WARN: ("WARN", "33"),
    Status.FAIL: ("FAIL", "31"),
    Status.SKIP: ("skip", "2"),
    Status.ERROR: ("ERROR", "35"),
}
_INDENT = " " * 8
_CONTROL = {number: "?" for number in (*range(32), 127)} | {9: " ", 10: " ", 13: " "}
_LABEL = 7


@dataclass(frozen=True, slots=True)
class Style:
    """How wide the text may be, whether it has colour, and whether evidence of what is well is shown too."""

    columns: int = 80
    colour: bool = False
    verbose: bool = False

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def heading(runbook: Runbook, style: Style) -> str:
    return style.paint(f"{runbook.name}: {runbook.title}", "1")


def finding_text(one: Finding, style: Style) -> str:
    """A finding: one line if all is well, else with its evidence, its reason and its fix."""
    word, code = _WORDS[one.status]
    subject = f"{one.result.subject}: " if one.result.subject and one.result.subject not in one.result.says else ""
    head = f"{one.id}  {one.title}" if one.status in (Status.PASS, Status.INFO, Status.SKIP) else f"{one.id}  "
    says = "" if one.status is Status.PASS and not style.verbose else f"{subject}{one.result.says}"
    separator = ": " if says and not head.endswith("  ") else ""
    lines = _wrap(f"{head}{separator}{says}", style.columns, "  ".ljust(8), _INDENT)
    first = f"  {style.paint(word.ljust(5), code)} {lines[0][8:]}"
    return "\n".join([first, *lines[1:], *_details(one, style)])


def _details(one: Finding, style: Style) -> Iterator[str]:
    bad = one.status in (Status.FAIL, Status.WARN, Status.ERROR)
    if bad or style.verbose or one.status is Status.INFO:
        for evidence in one.result.evidence:
            yield from _labelled("found", f"{evidence.value} ({evidence.source})", style)
    if bad or style.verbose:
        yield from _labelled("why", one.why, style)
        if one.result.fix:
            yield from fix_lines(one.result.fix, style)
        if one.result.verify:
            yield from _labelled("verify", one.result.verify, style)
        for link in one.links:
            yield from _labelled("see", link, style)


def fix_lines(fix: Fix, style: Style) -> Iterator[str]:
    """What mends it, the commands on lines of their own: they are to be copied."""
    words = " (by hand)" if fix.place is Place.BY_HAND else " (it is another program's)" if fix.foreign else ""
    yield from _labelled("fix", f"{fix.says}{words}", style)
    yield from _commands(map(shell, fix.now))
    if fix.keep:
        yield from _labelled("keep", "so that it stays:", style)
        yield from _commands(fix.keep)
    if fix.undo:
        yield from _labelled("undo", "to take it back:", style)
        yield from _commands(map(shell, fix.undo))


def _commands(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield f"{_INDENT}{' ' * _LABEL} # {_plain(line)}"


def _labelled(label: str, text: str, style: Style) -> list[str]:
    first = f"{_INDENT}{f'{label}:':<{_LABEL}} "
    return _wrap(text, style.columns, first, " " * len(first)) if text else [first.rstrip()]


def treated_text(one: Treated, style: Style) -> str:
    """What became of a fix."""
    if one.fixed:
        return style.paint(f"{_INDENT}fixed", "32")
    return "\n".join(_wrap(f"not fixed: {one.says}", style.columns, _INDENT, _INDENT))


def summary_text(findings: Sequence[Finding], fixed: int, seconds: float, style: Style) -> str:
    """The last line."""
    counted = summary(findings)
    words = {
        "fail": "failed",
        "warn": "warnings",
        "error": "not made",
        "pass": "ok",
        "info": "info",
        "skip": "skipped (-v tells why)",
    }
    parts = [f"{counted[name]} {word}" for name, word in words.items() if counted[name] or name == "fail"]
    parts += [f"{fixed} fixed"] if fixed else []
    code = "31" if counted["fail"] else "33" if counted["warn"] or counted["error"] else "32"
    return style.paint(f"{', '.join(parts)}; {seconds:.1f} s", code)


def explained(check: Check, runbooks: Sequence[Runbook], style: Style) -> str:
    """All that is known of a check."""
    lines = [style.paint(f"{check.id}  {check.title}", "1")]
    lines += _wrap(f"runbooks: {', '.join(one.name for one in runbooks)}", style.columns, "  ", "    ")
    lines += _wrap(f"why: {check.why}", style.columns, "  ", "    ")
    lines += _wrap(f"remedy: {check.remedy}", style.columns, "  ", "    ")
    return "\n".join([*lines, *(f"  see: {link}" for link in check.links)])


def listed(runbooks: Sequence[Runbook], style: Style) -> str:
    """All runbooks with their checks."""
    lines: list[str] = []
    for runbook in runbooks:
        lines += [*([""] if lines else []), heading(runbook, style)]
        for one in runbook.steps:
            lines += _wrap(f"{one.id}  {one.title}", style.columns, "  ", " " * 14)
    return "\n".join(lines)


def _plain(text: str) -> str:
    """ASCII without control characters: comments of rules and answers of servers hold whatever they like."""
    return text.translate(_CONTROL).encode("ascii", errors="replace").decode()


def _wrap(text: str, columns: int, first: str, following: str) -> list[str]:
    return textwrap.wrap(
        _plain(text),
        columns,
        initial_indent=first,
        subsequent_indent=following,
        break_on_hyphens=False,
        break_long_words=False,
    ) or [first.rstrip()]
