"""The runbooks, run on a thread of their own when somebody asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kpx.doctor.catalogue import RUNBOOKS
from kpx.doctor.check import Check, Runbook
from kpx.doctor.finding import Finding, Fix
from kpx.doctor.reading.live import LiveFacts
from kpx.doctor.session import Plan, Session
from kpx.doctor.subject import Subject
from kpx.doctor.treating import Treated, make
from kpx.tools.cluster import Options
from kpx.tools.errors import ToolError
from kpx.top.snapshot import Examined

_CHECK_SECONDS = 10.0
_END_SECONDS = 2.0


class _Stopped(Exception):
    """Nobody waits for the end of it any more."""


class Examiner:
    """Runs all runbooks, and makes a fix that somebody has agreed to; what was found is told as it goes on."""

    def __init__(self, options: Options, changed: Callable[[], None]) -> None:
        """`changed` is called on the thread when there is something new."""
        self._options, self._changed = options, changed
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._findings: tuple[Finding, ...] = ()
        self._doing = self._said = ""

    def start(self, fix: Fix | None = None) -> None:
        """Begin, in the network namespace of the calling thread, with a fix if one is given; not while it goes on."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, args=(fix,), name="top-doctor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End it, after the check that is being made if that does not take long. A fix that was begun is finished."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def seen(self) -> Examined:
        """What was found so far."""
        return Examined(self._findings, self._doing, self._said)

    def _run(self, fix: Fix | None) -> None:
        try:
            if fix is not None:
                self._tell(f"fixing: {fix.says}")
                self._said = make(fix) or f"done: {fix.says}"
            self._findings = ()
            Session(LiveFacts(self._options, _CHECK_SECONDS), Plan(RUNBOOKS, Subject()), self).run()
        except _Stopped:
            return
        except (ToolError, OSError) as error:
            self._said = str(error)
        self._tell("")

    def _tell(self, doing: str) -> None:
        self._doing = doing
        self._changed()

    # What a session tells.

    def begins(self, runbook: Runbook, check: Check) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._tell(f"{runbook.name}: {check.title}")

    def found(self, runbook: Runbook, finding: Finding) -> None:
        self._findings = (*self._findings, finding)

    def agrees(self, finding: Finding) -> bool:
        return False  # who looks at the screen is asked there

    def treated(self, one: Treated) -> None:
        """None is."""
