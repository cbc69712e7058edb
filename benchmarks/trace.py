"""How long ``kpx trace`` takes, from the start of its process to its end, with few Services and with many."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import dataclass

from benchmarks import network, objects
from benchmarks.node import cluster, daemon, node
from benchmarks.processes import Failed
from benchmarks.progress import Progress
from benchmarks.report import Column, percentile
from benchmarks.start_and_change import await_quiet, await_start
from benchmarks.subjects import Subject
from kpx.lab import namespaces


@dataclass(frozen=True, slots=True)
class Result:
    """One run: the seconds that each trace took."""

    subject: str
    services: int
    traces: list[float]


def run(subject: Subject, services: int, traces: int, progress: Progress) -> Result:
    """Trace ClusterIPs one after the other, from the pod that asks in the other benchmarks."""
    await_quiet(progress)
    with node(subject) as here, cluster(here, services) as served, daemon(here, served) as proxy:
        await_start(proxy, services, progress)
        await_quiet(progress)
        progress.step("traces")
        asked = random.Random(services).sample(range(services), min(services, traces))
        return Result(subject.name, services, [_trace(objects.cluster_ip(number)) for number in asked])


def _trace(address: str) -> float:
    command = [sys.executable, "-m", "kpx", "trace", f"{address}:{objects.PORT}", "--from", network.CLIENT_IP]
    started = time.monotonic()
    with namespaces.entered(network.NODE):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.monotonic() - started
    if done.returncode or f"{objects.ENDPOINTS} backends" not in done.stdout:
        raise Failed(f"the trace of {address} was wrong:\n{done.stdout}{done.stderr}")
    return took


COLUMNS: tuple[Column[Result], ...] = (
    Column("trace p50", lambda run: percentile(run.traces, 50), "{:.2f} s"),
    Column("p95", lambda run: percentile(run.traces, 95), "{:.2f} s"),
)
