"""What a lab keeps on disk, and the processes it runs: enough to end it cleanly after any crash.

/run/kpx-lab/NAME holds ``manifests/`` and ``config.yaml`` (the daemon's), ``logs/``, ``run/`` (mounted as /run for the
lab's programs, so that labs and host share no lock and no socket), ``lab.json`` and ``processes``.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/run/kpx-lab")
_TERM_SECONDS = 3.0
_START_TIME_FIELD = 19  # "starttime" in /proc/PID/stat, counted after the parenthesised command name


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the lab; its start time (clock ticks since boot) tells it from a later one with the same id."""

    role: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class State:
    """The folder of one lab."""

    name: str

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    @property
    def manifests(self) -> Path:
        return self.folder / "manifests"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def log(self, role: str) -> Path:
        return self.folder / "logs" / f"{role}.log"

    @property
    def exists(self) -> bool:
        return self.folder.is_dir()

    def create(self, facts: Mapping[str, Any]) -> None:
        """Make the folder. Raises FileExistsError."""
        self.folder.mkdir(parents=True)
        for part in (self.manifests, self.run, self.folder / "logs"):
            part.mkdir()
        (self.folder / "lab.json").write_text(json.dumps(facts), encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """What `create` was given; empty if it was not finished."""
        try:
            facts = json.loads((self.folder / "lab.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def record(self, role: str, pid: int) -> Process:
        """Note a process that was just started."""
        process = Process(role, pid, start_time(pid) or 0)
        with (self.folder / "processes").open("a", encoding="ascii") as records:
            records.write(f"{process.role} {process.pid} {process.started}\n")
        return process

    def forget(self, role: str) -> None:
        """Note that the processes of a role are of no interest any more."""
        others = [one for one in self.processes() if one.role != role]
        lines = "".join(f"{one.role} {one.pid} {one.started}\n" for one in others)
        (self.folder / "processes").write_text(lines, encoding="ascii")

    def processes(self) -> list[Process]:
        """The processes that were noted, dead or alive."""
        try:
            lines = (self.folder / "processes").read_text(encoding="ascii").splitlines()
        except OSError:
            return []
        fields = [line.split() for line in lines]
        return [Process(role, int(pid), int(started)) for role, pid, started in fields]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # another lab is there
            ROOT.rmdir()


@contextmanager
def locked() -> Iterator[None]:
    """Let no other `up` or `down`, of whatever lab, run meanwhile."""
    while True:
        ROOT.mkdir(parents=True, exist_ok=True)
        handle = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_current(handle):
                yield
                return
        finally:
            os.close(handle)


def _is_current(handle: int) -> bool:
    """Whether the folder that was locked is still the one in place: the last `down` removes it."""
    try:
        return os.fstat(handle).st_ino == ROOT.stat().st_ino
    except FileNotFoundError:
        return False


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if there is none, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[_START_TIME_FIELD])


def processes_in(inodes: set[int]) -> list[Process]:
    """The processes whose network namespace is one of these (by inode)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            started = start_time(int(entry.name))
            if started is not None and (entry / "ns/net").stat().st_ino in inodes:
                found.append(Process("other", int(entry.name), started))
    return found


def end(processes: list[Process]) -> None:
    """End processes: SIGTERM, and SIGKILL to those that live on 3 s later. Ids that were used again are left alone."""
    handles: dict[int, Process] = {}
    try:
        for process in processes:
            with suppress(OSError):
                handle = os.pidfd_open(process.pid)
                handles[handle] = process
        handles_of_ours = [handle for handle, process in handles.items() if process.alive]
        left = _signal(handles_of_ours, signal.SIGTERM, _TERM_SECONDS)
        _signal(left, signal.SIGKILL, _TERM_SECONDS)
    finally:
        for handle in handles:
            os.close(handle)


def kill(processes: list[Process]) -> None:
    """End processes by SIGKILL, as a crash does."""
    for process in processes:
        with suppress(OSError):
            handle = os.pidfd_open(process.pid)
            try:
                if process.alive:
                    _signal([handle], signal.SIGKILL, _TERM_SECONDS)
            finally:
                os.close(handle)


def hold(process: Process) -> None:
    """Stop a process until `let_go`."""
    if process.alive:
        os.kill(process.pid, signal.SIGSTOP)


def let_go(process: Process) -> None:
    """Let a process go on; one that is gone is no error."""
    if process.alive:
        os.kill(process.pid, signal.SIGCONT)


def _signal(handles: list[int], number: signal.Signals, seconds: float) -> list[int]:
    """Signal processes and wait for their end; returns those that still live after `seconds`."""
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
    deadline = time.monotonic() + seconds
    left = list(handles)
    while left and (remaining := deadline - time.monotonic()) > 0:
        ended, _, _ = select.select(left, [], [], remaining)
        left = [handle for handle in left if handle not in ended]
    return left
