"""Making a fix: shown, done on a yes, and looked at again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from kpx.doctor.finding import Command, Finding, Fix, Place, Status, shell

_COMMAND_SECONDS = 120.0
_LOOK_SECONDS = 20.0  # a proxy that was started anew needs a while
_PAUSE_SECONDS = 0.2
_TOOL = "kpx"


@dataclass(frozen=True, slots=True)
class Treated:
    """A finding, and what became of its fix: ``fixed`` is None where none was made; ``says`` tells why it failed."""

    finding: Finding
    fixed: bool | None = None
    says: str = ""

    @property
    def cured(self) -> bool:
        return self.fixed is True


def can_be_made(fix: Fix | None) -> bool:
    """Whether doctor can make a fix itself."""
    return fix is not None and fix.place is Place.NODE and bool(fix.now)


def make(fix: Fix) -> str:
    """Run the commands of a fix, one after the other; return what went wrong, or nothing."""
    for command in fix.now:
        if complaint := _run(command):
            return complaint
    return ""


def _run(command: Command) -> str:
    words = [sys.executable, "-m", _TOOL, *command[1:]] if command[0] == _TOOL else list(command)
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except FileNotFoundError:
        return f"{command[0]} is not installed here: run `{shell(command)}` where it is"
    except subprocess.TimeoutExpired:
        return f"`{shell(command)}` did not end within {_COMMAND_SECONDS:g} s"
    if done.returncode:
        return f"`{shell(command)}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
    return ""


def gone(look: Callable[[], list[Finding]], same: Callable[[Finding], bool]) -> tuple[bool, list[Finding]]:
    """Look again until a finding is gone, and nothing is in doubt, for some seconds; and what the last look found."""
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        found = look()
        there = any(map(same, found))
        if not there and not any(one.status is Status.ERROR for one in found):
            return True, found
        if time.monotonic() > deadline:
            return not there, found
        time.sleep(_PAUSE_SECONDS)
