"""How long a cluster takes to be served from the daemon's start, and one change of it: with what cpu and memory.

*Start*: from the start of the daemon's process until the Services answer, the last of the list among them. *Change*:
from the write of one EndpointSlice, which replaces all endpoints of its Service, until one of the new ones answers.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from benchmarks import objects
from benchmarks.client import change_time, first_answer
from benchmarks.floor import Floor, measure
from benchmarks.node import Cluster, Daemon, cluster, daemon, node
from benchmarks.processes import busy_processors
from benchmarks.progress import Progress
from benchmarks.report import Column, percentile
from benchmarks.subjects import Subject

# The Services whose first answers are waited for: rules go in in no particular order, so a few would end too early.
_SAMPLE = 100
_START_PAUSE, _START_DEADLINE = 0.005, 600.0
_SETTLE_SECONDS = 2.0
_QUIET, _QUIET_SECONDS, _QUIET_DEADLINE = 0.1, 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run. Times are in seconds, memory in bytes, ``idle`` is the part of one processor that the daemon uses when
    nothing changes, and ``noise`` is how many processors others kept busy just before."""

    subject: str
    services: int
    start: float
    changes: list[float]
    cpu_per_change: float
    resident: int
    peak: int
    idle: float
    noise: float
    floor: Floor


def run(subject: Subject, services: int, changes: int, idle_seconds: float, progress: Progress) -> Result:
    """Measure on a node of its own, then the floor on another."""
    numbers = [at * services // changes for at in range(changes)]
    noise = await_quiet(progress)
    with node(subject) as here, cluster(here, services) as served, daemon(here, served) as proxy:
        start = await_start(proxy, services, progress)
        time.sleep(_SETTLE_SECONDS)
        progress.step("changes")
        before = proxy.program.cpu_seconds()
        seconds = [_change(served, proxy, at, number, progress) for at, number in enumerate(numbers)]
        used = proxy.program.cpu_seconds() - before
        memory = proxy.program.memory()
        progress.step("idle")
        idle = _idle(proxy, idle_seconds)
    await_quiet(progress)
    floor = measure(subject, services, numbers, progress)
    return Result(
        subject=subject.name,
        services=services,
        start=start,
        changes=seconds,
        cpu_per_change=used / changes,
        resident=memory.resident,
        peak=memory.peak,
        idle=idle,
        noise=noise,
        floor=floor,
    )


def await_quiet(progress: Progress) -> float:
    """Wait until hardly anything else runs, or for a minute; return how many processors are busy."""
    progress.step("waiting for a quiet machine")
    deadline = time.monotonic() + _QUIET_DEADLINE
    while (busy := busy_processors(_QUIET_SECONDS)) > _QUIET and time.monotonic() < deadline:
        progress.detail(f"waiting for a quiet machine, {busy:.1f} processors are busy")
    return busy


def await_start(proxy: Daemon, services: int, progress: Progress) -> float:
    """Wait until every Service of a sample answers; the seconds from the daemon's start."""
    progress.step("start")
    sample = sorted({*random.Random(services).sample(range(services), min(services, _SAMPLE)), services - 1})
    answered = proxy.started
    for done, number in enumerate(sample):
        progress.detail(f"start: {done} of {len(sample)} Services answer")
        wanted, deadline = objects.endpoints(number), proxy.started + _START_DEADLINE
        answered = first_answer(number, wanted, pause=_START_PAUSE, deadline=deadline, check=proxy.program.check)
    return answered - proxy.started


def _change(served: Cluster, proxy: Daemon, at: int, number: int, progress: Progress) -> float:
    progress.detail(f"change {at + 1}")
    wanted = objects.replacements(at)
    seconds = change_time(lambda: served.write_slice(number, wanted), number, wanted, proxy.program.check)
    served.written()
    return seconds


def _idle(proxy: Daemon, seconds: float) -> float:
    time.sleep(_SETTLE_SECONDS)
    before, started = proxy.program.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (proxy.program.cpu_seconds() - before) / (time.monotonic() - started)


COLUMNS: tuple[Column[Result], ...] = (
    Column("start", lambda run: run.start, "{:.2f} s"),
    Column("floor", lambda run: run.floor.start, "{:.2f} s"),
    Column("change p50", lambda run: percentile(run.changes, 50) * 1000, "{:.1f} ms"),
    Column("p95", lambda run: percentile(run.changes, 95) * 1000, "{:.1f} ms"),
    Column("floor p50", lambda run: percentile(run.floor.changes, 50) * 1000, "{:.1f} ms"),
    Column("p95", lambda run: percentile(run.floor.changes, 95) * 1000, "{:.1f} ms"),
    Column("cpu a change", lambda run: run.cpu_per_change * 1000, "{:.1f} ms"),
    Column("floor", lambda run: run.floor.cpu_per_change * 1000, "{:.1f} ms"),
    Column("memory", lambda run: run.resident / 1e6, "{:.0f} MB"),
    Column("peak", lambda run: run.peak / 1e6, "{:.0f} MB"),
    Column("idle", lambda run: run.idle * 100, "{:.2f} %"),
)
