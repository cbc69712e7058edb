"""How fast new connections are made through a ClusterIP, with few Services and with many, and to a pod directly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import objects
from benchmarks.client import connect_times
from benchmarks.node import cluster, daemon, node
from benchmarks.progress import Progress
from benchmarks.report import Column, percentile
from benchmarks.start_and_change import await_quiet, await_start
from benchmarks.subjects import Subject

# The place of a Service's rule among the others counts: connections go to so many Services, spread over the list.
_SERVICES_ASKED = 50


@dataclass(frozen=True, slots=True)
class Result:
    """One run: connections made one after the other. ``p50`` and ``p99`` are the seconds that one took."""

    subject: str
    services: int
    to: str
    rate: float
    p50: float
    p99: float


def run(subject: Subject, services: int, seconds: float, progress: Progress) -> Iterator[Result]:
    """Measure with this many Services; with none, on a node without any rules."""
    await_quiet(progress)
    with node(subject) as here, cluster(here, max(services, 1)) as served:
        pods = objects.endpoints(0)
        if not services:
            yield _measured(subject, services, "pod", pods, objects.TARGET_PORT, seconds, progress)
            return
        with daemon(here, served) as proxy:
            await_start(proxy, services, progress)
            await_quiet(progress)
            yield _measured(subject, services, "pod", pods, objects.TARGET_PORT, seconds, progress)
            asked = random.Random(services).sample(range(services), min(services, _SERVICES_ASKED))
            addresses = [objects.cluster_ip(number) for number in asked]
            yield _measured(subject, services, "ClusterIP", addresses, objects.PORT, seconds, progress)


def _measured(
    subject: Subject, services: int, to: str, addresses: Sequence[str], port: int, seconds: float, progress: Progress
) -> Result:
    progress.step(f"connections to a {to}")
    took = connect_times(addresses, port, seconds)
    return Result(subject.name, services, to, len(took) / seconds, percentile(took, 50), percentile(took, 99))


COLUMNS: tuple[Column[Result], ...] = (
    Column("connections a second", lambda run: run.rate, "{:,.0f}", more=True),
    Column("connect p50", lambda run: run.p50 * 1e6, "{:.0f} µs"),
    Column("p99", lambda run: run.p99 * 1e6, "{:.0f} µs"),
)
