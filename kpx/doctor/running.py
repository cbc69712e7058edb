"""Runs checks, each apart from the others: one that crashes or hangs is its own error, and the next goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from kpx.doctor.check import Check, Runbook
from kpx.doctor.facts import Facts, NotKnown
from kpx.doctor.finding import Finding, Result, Status, skipped
from kpx.doctor.subject import Subject
from kpx.tools.errors import ToolError


def run(runbook: Runbook, check: Check, facts: Facts, subject: Subject, seconds: float) -> list[Finding]:
    """What a check finds within so many seconds; a check that says nothing has passed over its subject."""
    started = time.monotonic()
    results = _within(seconds, lambda: list(check.look(facts, subject)))
    spent = time.monotonic() - started
    return [
        Finding(check.id, runbook.name, check.title, check.why, check.links, one, round(spent, 3))
        for one in results or [skipped("it does not apply here")]
    ]


def _within(seconds: float, look: Callable[[], list[Result]]) -> list[Result]:
    results: list[Result] = []

    def work() -> None:
        results.extend(_safely(look))

    # A thread that hangs cannot be ended; being a daemon's, it ends with the process.
    thread = threading.Thread(target=work, name="check", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [Result(Status.ERROR, f"the check did not end within {seconds:g} s")]
    return results


def _safely(look: Callable[[], list[Result]]) -> list[Result]:
    try:
        return look()
    except NotKnown as reason:
        return [skipped(str(reason))]
    except ToolError as error:
        return [Result(Status.ERROR, str(error))]
    except Exception as error:
        return [Result(Status.ERROR, f"the check failed: {type(error).__name__}: {error}")]


def steps(runbooks: tuple[Runbook, ...]) -> Iterator[tuple[Runbook, Check]]:
    """Every check once, in the order of the runbooks."""
    seen: set[str] = set()
    for runbook in runbooks:
        for check in runbook.steps:
            if check.id not in seen:
                seen.add(check.id)
                yield runbook, check
