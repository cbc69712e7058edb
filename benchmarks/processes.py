"""The programs of a run, each in its namespace, and what they use of the machine."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kpx.lab import namespaces

_TICKS = os.sysconf("SC_CLK_TCK")
_CPU_TIMES = slice(11, 15)  # utime, stime, cutime, cstime in /proc/PID/stat, after the name in parentheses
_END_SECONDS = 10.0
_LOG_LINES = 8


class Failed(Exception):
    """A program of the run did not do its part; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory, in bytes: now, and at most so far."""

    resident: int
    peak: int


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise `Failed` if it has ended."""
        if self.process.poll() is not None:
            self.fail("ended")

    def fail(self, what: str) -> None:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise Failed("\n  ".join([f"{self.log.stem} {what}; it wrote:", *lines]))

    def cpu_seconds(self) -> float:
        """The time of all processors that it and its children (those that have ended) have used so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        return sum(map(int, stat.rpartition(")")[2].split()[_CPU_TIMES])) / _TICKS

    def memory(self) -> Memory:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in status)
        resident, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return Memory(resident, peak)

    def first_line(self) -> str:
        """What it prints once it is ready. Raises `Failed`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        if not line:
            self.fail("did not start")
        return line


@contextmanager
def running(namespace: str, log: Path, *words: str) -> Iterator[Program]:
    """Run ``python WORDS`` in a namespace, and end it at the end: its input ends, and it gets a SIGTERM."""
    with log.open("wb") as messages, namespaces.entered(namespace):
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
        )
    with process:
        try:
            yield Program(process, log)
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def children_seconds() -> float:
    """The time of all processors that this process's children (those that have ended) have used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def busy_processors(seconds: float) -> float:
    """How many processors the whole machine keeps busy, watched for some seconds."""
    before = _machine_times()
    time.sleep(seconds)
    busy, total = (now - then for now, then in zip(_machine_times(), before, strict=True))
    return (os.cpu_count() or 1) * busy / total


def _machine_times() -> tuple[int, int]:
    """Ticks of all processors since boot: busy, and all."""
    times = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    idle = times[3] + times[4]
    return sum(times) - idle, sum(times)
