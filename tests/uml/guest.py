"""The guest, as the host sees it: a process that runs pytest, and what arrives from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tests.uml import journal

RUNNER = Path(__file__).with_name("uml-run")
# Where the host's pytest and the guest's meet: the variable of this name leads to the folder.
FOLDER = "KPX_UML_FOLDER"
# Where the tests are that run in a guest.
TESTS = "tests/ipvs"
SELECTED, JOURNAL, OUTPUT = "selected.json", "journal", "output"

# The guest is ten times as slow as its host where it starts processes, and the host may be busy.
TEST_SECONDS = 180
# How long nothing at all may arrive: the guest's own limit of a test has passed long before.
SILENCE_SECONDS = 300.0
_POLL_SECONDS = 0.02
_STOP_SECONDS = 5.0
_OUTPUT_LINES = 50


class GuestFailed(Exception):
    """The guest will not report on a test. The text says why, with the end of what the guest said."""


def missing() -> str | None:
    """Why there can be no guest here; None if there can."""
    if shutil.which("linux.uml"):
        return None
    return "no User Mode Linux kernel here (on Debian: the package user-mode-linux)"


class Guest:
    """One guest that runs the tests `nodeids` of the files `paths`, in their order; `folder` is where both meet."""

    def __init__(
        self, folder: Path, root: Path, paths: Sequence[Path], nodeids: Sequence[str], options: Sequence[str]
    ) -> None:
        self._folder = folder
        (self._folder / SELECTED).write_text(json.dumps(list(nodeids)), encoding="utf-8")
        (self._folder / JOURNAL).touch()
        self._journal = journal.Reader(self._folder / JOURNAL)
        self._told = False
        self._process = self._start(root, [*options, *map(str, paths)])

    def _start(self, root: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        # However this process ends, the runner is told, and ends the guest. The session of its own keeps a Ctrl-C away
        # from the guest: this process takes it, and then stops the guest.
        dying = ["setpriv", "--pdeathsig", "TERM", str(RUNNER), "--timeout", "0"]
        told = ["--env", f"{FOLDER}={self._folder}"]
        pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}"]
        with (self._folder / OUTPUT).open("wb") as output:
            return subprocess.Popen(
                [*dying, *told, "--", *pytest, *arguments],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def reports(self, nodeid: str) -> list[journal.Data]:
        """Wait for the reports of a test. Raises `GuestFailed` if they do not all come; see `partial`."""
        while True:
            ended = self._process.poll() is not None
            self._journal.update()
            if self._journal.finished(nodeid):
                return self._journal.reports(nodeid)
            if ended:
                raise GuestFailed(self._complaint(f"the guest ended (status {self._process.returncode})"))
            if time.time() - self._journal.silent_since > SILENCE_SECONDS:
                self.stop()
                raise GuestFailed(self._complaint(f"nothing came from the guest for {SILENCE_SECONDS:.0f} s"))
            time.sleep(_POLL_SECONDS)

    def partial(self, nodeid: str) -> list[journal.Data]:
        """The reports of a test that came before the guest failed."""
        return self._journal.reports(nodeid)

    def _complaint(self, reason: str) -> str:
        """Why a test has no result: in full the first time, for all that follow have the same to say."""
        if self._told:
            return f"{reason}: see the first test that failed for this"
        self._told = True
        running = f" while it ran {self._journal.running}" if self._journal.running else ""
        with (self._folder / OUTPUT).open(encoding="utf-8", errors="replace") as output:
            said = "".join(deque(output, _OUTPUT_LINES))
        return f"{reason}{running}; the end of what it said:\n{said}"

    def stop(self) -> None:
        """End the guest, whatever it does."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
