"""One run of the doctor: check after check, with what is to be done at each that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from kpx.doctor import running, treating
from kpx.doctor.check import Check, Runbook
from kpx.doctor.facts import Facts
from kpx.doctor.finding import Finding
from kpx.doctor.subject import Subject
from kpx.doctor.treating import Treated

_MOST_FINDINGS = 100


class Reread(Facts, Protocol):
    """Facts that can be read anew."""

    def fresh(self) -> None:
        """Forget what was read: something was changed."""

    @property
    def hangs(self) -> bool:
        """Whether something that was asked has not answered yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run: `ids`, if any, are the only checks that are."""

    runbooks: tuple[Runbook, ...]
    subject: Subject
    ids: Collection[str] = ()
    seconds: float = 10.0


class Audience(Protocol):
    """Who is told while it goes on, and who says yes."""

    def begins(self, runbook: Runbook, check: Check) -> None:
        """A check is being made."""

    def found(self, runbook: Runbook, finding: Finding) -> None:
        """It has found something."""

    def agrees(self, finding: Finding) -> bool:
        """Whether the fix of a finding is to be made."""

    def treated(self, one: Treated) -> None:
        """A fix was made."""


@dataclass(frozen=True, slots=True)
class Session:
    """A run that has been planned, before those who are told."""

    facts: Reread
    plan: Plan
    audience: Audience

    def run(self) -> list[Treated]:
        """All that was found, in order, and what became of it."""
        found: list[Treated] = []
        for runbook, check in self._steps():
            self.audience.begins(runbook, check)
            found += self._look(runbook, check)
        return found

    def _steps(self) -> Iterator[tuple[Runbook, Check]]:
        for runbook, check in running.steps(self.plan.runbooks):
            if not self.plan.ids or check.id in self.plan.ids:
                yield runbook, check

    def _look(self, runbook: Runbook, check: Check) -> list[Treated]:
        """Make a check, and again after each fix: one cause may have several findings, and hide another."""

        def look() -> list[Finding]:
            return running.run(runbook, check, self.facts, self.plan.subject, self.plan.seconds)

        told: list[Treated] = []
        waiting = look()
        if check.settles and any(one.result.bad for one in waiting):
            time.sleep(check.settles)
            waiting = self._again(look)
        while waiting and len(told) < _MOST_FINDINGS:
            finding = waiting.pop(0)
            self.audience.found(runbook, finding)
            treated, after = self._treat(finding, look)
            told.append(treated)
            if treated.cured:
                waiting = [
                    one for one in after if one.result.bad and not any(_alike(one, each.finding) for each in told)
                ]
        return told

    def _treat(self, finding: Finding, look: Callable[[], list[Finding]]) -> tuple[Treated, list[Finding]]:
        """What becomes of a finding, and what the check finds after its fix."""
        fix = finding.result.fix
        if not finding.result.bad or fix is None or not treating.can_be_made(fix) or not self.audience.agrees(finding):
            return Treated(finding), []
        after: list[Finding] = []
        if says := treating.make(fix):
            treated = Treated(finding, False, says)
        else:
            gone, after = treating.gone(lambda: self._again(look), lambda one: _alike(one, finding))
            treated = Treated(finding, gone, "" if gone else "it is as before")
        self.facts.fresh()
        self.audience.treated(treated)
        return treated, after

    def _again(self, look: Callable[[], list[Finding]]) -> list[Finding]:
        self.facts.fresh()
        return look()


def _alike(one: Finding, other: Finding) -> bool:
    """Whether two findings are of one fault: what is counted in their words and evidence may have changed."""
    mine, others = one.result, other.result
    if mine.fix is not None and (mine.subject, mine.fix) == (others.subject, others.fix):
        return mine.bad and others.bad
    return (one.status, mine.subject, mine.says, mine.fix) == (other.status, others.subject, others.says, others.fix)


def standing(found: list[Treated]) -> list[Finding]:
    """The findings that still stand."""
    return [one.finding for one in found if not one.cured]
