"""What a check found, as data. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum

Command = tuple[str, ...]  # a program and its arguments; no shell reads it


class Status(Enum):
    """How it stands. Of skip and error the finding says why."""

    PASS = "pass"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


class Place(Enum):
    """Where a fix is made: on this node, by doctor; or by hand, in the cluster's objects or a configuration."""

    NODE = "node"
    BY_HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A raw value, and where it was read."""

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Fix:
    """What mends it: ``now`` at once, ``keep`` (shell lines) so that it stays after a restart, ``undo`` takes it back.

    ``foreign`` marks a fix that changes what another program made, or ends another program: it is never made by
    ``--yes`` alone.
    """

    says: str
    now: tuple[Command, ...] = ()
    keep: tuple[str, ...] = ()
    undo: tuple[Command, ...] = ()
    place: Place = Place.NODE
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a check says of one subject: a Service, or with an empty ``subject`` the node."""

    status: Status
    says: str
    evidence: tuple[Evidence, ...] = ()
    subject: str = ""
    fix: Fix | None = None
    verify: str = ""

    @property
    def bad(self) -> bool:
        return self.status in (Status.FAIL, Status.WARN)


@dataclass(frozen=True, slots=True)
class Finding:
    """A result with what is said of its check: its stable ``id``, what was looked at, and why that matters."""

    id: str
    runbook: str
    title: str
    why: str
    links: tuple[str, ...]
    result: Result
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        return self.result.status


def shell(command: Command) -> str:
    """A command as it is typed."""
    return shlex.join(command)


# The results that checks give, in short.


def passed(says: str, *evidence: Evidence, subject: str = "") -> Result:
    return Result(Status.PASS, says, evidence, subject)


def told(says: str, *evidence: Evidence, subject: str = "", fix: Fix | None = None) -> Result:
    """Something worth knowing that is no fault."""
    return Result(Status.INFO, says, evidence, subject, fix)


def skipped(why: str, subject: str = "") -> Result:
    return Result(Status.SKIP, why, (), subject)


def failed(says: str, *evidence: Evidence, subject: str = "", fix: Fix | None = None, verify: str = "") -> Result:
    return Result(Status.FAIL, says, evidence, subject, fix, verify)


def warned(says: str, *evidence: Evidence, subject: str = "", fix: Fix | None = None, verify: str = "") -> Result:
    return Result(Status.WARN, says, evidence, subject, fix, verify)
