"""How long the daemon's own part of a change takes: from an event in its hands until the kernel has what follows.

In this process, without an API server, a watch or a client: the work, with the kernel's part in it, and nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks import network
from benchmarks.node import node
from benchmarks.processes import children_seconds
from benchmarks.progress import Progress
from benchmarks.proxier import change, proxier
from benchmarks.report import Column, percentile
from benchmarks.start_and_change import await_quiet
from benchmarks.subjects import Subject
from kpx.lab import namespaces

_BETWEEN_CHANGES = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """One run, in seconds: the first sync, which writes all, and the changes with what they use of the processors."""

    subject: str
    services: int
    first: float
    changes: list[float]
    cpu_per_change: float
    noise: float


def run(subject: Subject, services: int, changes: int, progress: Progress) -> Result:
    """Measure on a node of its own."""
    numbers = [at * services // changes for at in range(changes)]
    noise = await_quiet(progress)
    progress.step("taking in the cluster")
    with (
        node(subject) as here,
        namespaces.entered(network.NODE),
        proxier(here.config, subject.working(), services) as working,
    ):
        progress.step("first sync")
        started = time.perf_counter()
        working.sync()
        first = time.perf_counter() - started
        progress.step("changes")
        seconds, used = [], 0.0
        for at, number in enumerate(numbers):
            time.sleep(_BETWEEN_CHANGES)
            started, before = time.perf_counter(), _cpu_seconds()
            change(working, number, at)
            seconds.append(time.perf_counter() - started)
            used += _cpu_seconds() - before
    return Result(subject.name, services, first, seconds, used / changes, noise)


def _cpu_seconds() -> float:
    return time.thread_time() + children_seconds()


COLUMNS: tuple[Column[Result], ...] = (
    Column("first sync", lambda run: run.first, "{:.2f} s"),
    Column("change p50", lambda run: percentile(run.changes, 50) * 1000, "{:.2f} ms"),
    Column("p95", lambda run: percentile(run.changes, 95) * 1000, "{:.2f} ms"),
    Column("cpu a change", lambda run: run.cpu_per_change * 1000, "{:.2f} ms"),
)
