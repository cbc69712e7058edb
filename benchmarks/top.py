"""How soon ``kpx top`` shows the Services, how long it keeps a key waiting, and what it uses while it is watched."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

import msgspec

from benchmarks import network
from benchmarks.node import cluster, daemon, node
from benchmarks.processes import Failed
from benchmarks.progress import Progress
from benchmarks.report import Column
from benchmarks.start_and_change import await_quiet, await_start
from benchmarks.subjects import Subject
from benchmarks.top_program import Result as Measured
from kpx.lab import namespaces
from kpx.proxier.unix_socket import VARIABLE


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    subject: str
    services: int
    measured: Measured


def run(subject: Subject, services: int, seconds: float, progress: Progress) -> Result:
    """Watch a node for some seconds."""
    await_quiet(progress)
    with node(subject) as here:
        os.environ[VARIABLE] = str(here.folder / "kpx.sock")
        with cluster(here, services) as served, daemon(here, served) as proxy:
            await_start(proxy, services, progress)
            await_quiet(progress)
            progress.step("kpx top")
            return Result(subject.name, services, _measured(seconds))


def _measured(seconds: float) -> Measured:
    command = [sys.executable, "-m", "benchmarks.top_program", str(time.time()), str(seconds)]
    with namespaces.entered(network.NODE):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"kpx top failed:\n{done.stdout}{done.stderr}")
    return msgspec.json.decode(done.stdout, type=Measured)


COLUMNS: tuple[Column[Result], ...] = (
    Column("first paint", lambda run: run.measured.painted, "{:.2f} s"),
    Column("cpu for it", lambda run: run.measured.painted_cpu, "{:.2f} s"),
    Column("longest wait, keys", lambda run: run.measured.keys.clock * 1000, "{:.0f} ms"),
    Column("own", lambda run: run.measured.keys.own * 1000, "{:.0f} ms"),
    Column("watching", lambda run: run.measured.idle.clock * 1000, "{:.0f} ms"),
    Column("own", lambda run: run.measured.idle.own * 1000, "{:.0f} ms"),
    Column("cpu", lambda run: run.measured.cpu * 100, "{:.1f} %"),
    Column("counted every", lambda run: run.measured.counted_every, "{:.1f} s"),
    Column("memory", lambda run: run.measured.memory / 1e6, "{:.0f} MB"),
)
