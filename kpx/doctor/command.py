"""`kpx doctor`: from its arguments to what it prints and its exit status."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from kpx.doctor import catalogue
from kpx.doctor.check import Check, Runbook
from kpx.doctor.finding import Finding, Status
from kpx.doctor.reading.live import LiveFacts
from kpx.doctor.session import Plan, Reread, Session, standing
from kpx.doctor.shown import others, text
from kpx.doctor.shown.document import Report, encode, shown, summary
from kpx.doctor.shown.text import Style
from kpx.doctor.subject import Subject
from kpx.doctor.treating import Treated
from kpx.tools.cluster import Options
from kpx.tools.errors import OK, ToolError, UsageError, reported

FAILED, WARNED, INCOMPLETE = 3, 4, 1
_COLUMNS, _WIDEST = 80, 120


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be looked at and how. ``what`` is a runbook, ``list``, ``explain`` or nothing for all runbooks."""

    what: str = ""
    name: str = ""
    namespace: str = ""
    ids: tuple[str, ...] = ()
    output: str = "text"
    fix: bool = False
    yes: bool = False
    dry_run: bool = False
    strict: bool = False
    verbose: bool = False
    seconds: float = 10.0


def run(wish: Wish, options: Options, elsewhere: Callable[[], Reread] | None = None) -> int:
    """The exit status: 0, 3 if something failed, 4 for warnings with ``--strict``, 2 usage, 1 could not run.

    `elsewhere` gives the facts of another node than this: those can be read, and nothing can be mended there.
    """
    opened = elsewhere or (lambda: _here(wish, options))
    if wish.output != "npd":
        return reported("doctor", lambda: _run(wish, opened))
    try:
        return _run(wish, opened)
    except ToolError as error:  # the status 1 would mean that something is wrong with the node
        told, status = others.not_known(str(error))
        print(told)
        return status


def _here(wish: Wish, options: Options) -> Reread:
    if os.geteuid():
        raise ToolError("the kernel shows its rules to root only: run it with sudo")
    return LiveFacts(options, wish.seconds)


def _run(wish: Wish, opened: Callable[[], Reread]) -> int:
    style = _style(wish)
    if wish.what == "list":
        print(text.listed(catalogue.RUNBOOKS, style))
        return OK
    if wish.what == "explain":
        return _explain(wish.name, style)
    runbooks, subject = _asked(wish)
    facts = opened()
    for note in facts.cluster().notes:
        print(f"kpx doctor: {note}", file=sys.stderr)
    screen = Screen(wish, style)
    plan = Plan(_narrowed(runbooks, facts, subject), subject, wish.ids, wish.seconds)
    started = time.monotonic()
    found = Session(facts, plan, screen).run()
    status = _finish(wish, style, facts, found, plan, time.monotonic() - started)
    if facts.hangs:  # a program that it waits for would hold the end of this process up
        sys.stdout.flush()
        os._exit(status)
    return status


def _explain(name: str, style: Style) -> int:
    known = catalogue.checks()
    if name.upper() not in known:
        raise UsageError(f"there is no check {name or '(none was named)'}: `kpx doctor list` shows all")
    print(text.explained(*known[name.upper()], style))
    return OK


def _asked(wish: Wish) -> tuple[tuple[Runbook, ...], Subject]:
    known = catalogue.checks()
    if unknown := [one for one in wish.ids if one not in known]:
        raise UsageError(f"there is no check {unknown[0]}: `kpx doctor list` shows all")
    if wish.yes and not wish.fix:
        raise UsageError("--yes answers the question of --fix: give that too")
    if wish.fix and wish.output != "text" and not (wish.yes or wish.dry_run):
        raise UsageError(f"with -o {wish.output} nothing is asked: give --yes, or --dry-run")
    if wish.fix and not (wish.yes or wish.dry_run or (sys.stdin.isatty() and sys.stdout.isatty())):
        raise UsageError("nobody is there to say yes to a fix: give --yes, or --dry-run")
    one = catalogue.runbook(wish.what)
    if one:
        return (one,), Subject(wish.name, wish.namespace)
    if "/" in wish.what and not wish.name:
        return catalogue.RUNBOOKS, Subject(wish.what, wish.namespace)
    if wish.what:
        names = ", ".join(each.name for each in catalogue.RUNBOOKS)
        raise UsageError(f"{wish.what!r} is no runbook: it is one of {names}, or list, explain, or NAMESPACE/NAME")
    return catalogue.RUNBOOKS, Subject(wish.name, wish.namespace)


def _narrowed(runbooks: tuple[Runbook, ...], facts: Reread, subject: Subject) -> tuple[Runbook, ...]:
    """Where there is no such Service, only the check that says so."""
    cluster = facts.cluster()
    if not subject.named:
        return runbooks
    if not cluster.ports:
        raise ToolError(f"what {subject.text} is, nobody tells: name a source (--kubeconfig, --manifests)")
    try:
        cluster.find(subject.text, subject.namespace)
    except UsageError:
        raise
    except ToolError:
        first = catalogue.RUNBOOKS[0]
        return (Runbook(first.name, first.title, first.steps[:1]),)
    return runbooks


def _style(wish: Wish) -> Style:
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size((_COLUMNS, 24)).columns if terminal else _COLUMNS
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(min(max(columns, 60), _WIDEST), colour, wish.verbose)


class Screen:
    """Shows what happens, and asks."""

    def __init__(self, wish: Wish, style: Style) -> None:
        self._wish = wish
        self._style = style
        self._text = wish.output == "text"
        self._terminal = sys.stdout.isatty() and sys.stdin.isatty()
        self._runbook = self._last = ""

    def begins(self, runbook: Runbook, check: Check) -> None:
        if self._text and runbook.name != self._runbook:
            print(("\n" if self._runbook else "") + text.heading(runbook, self._style))
            self._runbook = runbook.name
        if self._text and self._terminal:
            print(f"\r\x1b[K  ...   {check.id}  {check.title}"[: self._style.columns], end="", flush=True)

    def found(self, runbook: Runbook, finding: Finding) -> None:
        if self._text:
            self._clear()
            if finding.status is Status.SKIP and not self._style.verbose:
                return
            if (shown := text.finding_text(finding, self._style)) != self._last:  # well in both families: one line
                print(shown, flush=True)
            self._last = shown

    def _clear(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="")

    def agrees(self, finding: Finding) -> bool:
        """With ``--yes``: but not for what another program made, unless that very check is named by ``--id``."""
        wish, fix = self._wish, finding.result.fix
        if wish.dry_run or fix is None:
            return False
        if wish.fix and wish.yes:
            if fix.foreign and finding.id not in wish.ids:
                note = f"not made by --yes alone, as it changes what another program made: add --id {finding.id}"
                print(f"        {note}" if self._text else f"kpx doctor: {finding.id}: {note}", file=self._notes())
                return False
            return True
        return self._text and self._terminal and self._ask()

    def _notes(self) -> TextIO:
        return sys.stdout if self._text else sys.stderr

    def _ask(self) -> bool:
        print("        Make this fix? [y/N] ", end="", flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def treated(self, one: Treated) -> None:
        if self._text:
            print(text.treated_text(one, self._style), flush=True)


def _finish(wish: Wish, style: Style, facts: Reread, found: list[Treated], plan: Plan, seconds: float) -> int:
    findings = standing(found)
    shows: dict[str, Callable[[], str]] = {
        "text": lambda: "\n" + text.summary_text(findings, sum(one.cured for one in found), seconds, style),
        "json": lambda: encode(_report(facts, found, plan, seconds)),
        "junit": lambda: others.junit(findings, seconds),
        "npd": lambda: others.npd(findings)[0],
    }
    print(shows[wish.output]())
    return others.npd(findings)[1] if wish.output == "npd" else _status(findings, strict=wish.strict)


def _status(findings: list[Finding], *, strict: bool) -> int:
    there = {one.status for one in findings}
    if Status.FAIL in there:
        return FAILED
    if Status.ERROR in there:
        return INCOMPLETE
    return WARNED if strict and Status.WARN in there else OK


def _report(facts: Reread, found: list[Treated], plan: Plan, seconds: float) -> Report:
    cluster = facts.cluster()
    return Report(
        node=cluster.node,
        mode=cluster.mode,
        source=cluster.origin,
        service=plan.subject.text,
        runbooks=tuple(one.name for one in plan.runbooks),
        seconds=round(seconds, 3),
        summary=summary(standing(found)),
        notes=cluster.notes,
        findings=tuple(map(shown, found)),
    )
