"""The floor: how long the kernel takes for what the daemon writes, when it is sent to it bare.

The daemon's own parts work out what to write. It is recorded on one node, then sent and timed on another.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from benchmarks import network, objects
from benchmarks.client import change_time
from benchmarks.node import node, pods
from benchmarks.processes import children_seconds
from benchmarks.progress import Progress
from benchmarks.proxier import change, proxier
from benchmarks.subjects import Recording, Subject
from kpx.lab import namespaces


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds: for all rules of the cluster, for each of the changes, and of the processors for a change."""

    start: float
    changes: list[float]
    cpu_per_change: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the daemon writes: for the whole cluster, and for each of the changes."""

    recording: Recording
    whole: list[Any]
    changes: list[list[Any]]


def measure(subject: Subject, services: int, changes: list[int], progress: Progress) -> Floor:
    """Write what the daemon would write for the cluster, and for new endpoints of the Services `changes`."""
    progress.step("floor: working out what to write")
    recorded = _recorded(subject, services, changes)
    with (
        node(subject) as here,
        pods(here),
        ThreadPoolExecutor(1, initializer=lambda: namespaces.enter(network.NODE)) as sender,
    ):
        progress.step("floor: writing all rules")
        started = time.monotonic()
        sender.submit(_send, recorded.recording, recorded.whole).result()
        start = time.monotonic() - started
        progress.step("floor: writing changes")
        before = _cpu_seconds(sender)
        seconds = [
            _change(sender, recorded.recording, part, at, number)
            for at, (number, part) in enumerate(zip(changes, recorded.changes, strict=True))
        ]
        used = _cpu_seconds(sender) - before
    return Floor(start, seconds, used / len(changes))


def _recorded(subject: Subject, services: int, changes: list[int]) -> Recorded:
    """Have it worked out on a node of its own: some modes cannot but write it there."""
    with node(subject) as here, namespaces.entered(network.NODE):
        recording = subject.recording()
        with closing(recording), proxier(here.config, recording.mode, services) as working:
            recording.take()  # what the start tries out
            working.sync()
            whole = recording.take()
            parts = []
            for at, number in enumerate(changes):
                change(working, number, at)
                parts.append(recording.take())
        return Recorded(recording, whole, parts)


def _send(recording: Recording, inputs: list[Any]) -> None:
    for one in inputs:
        recording.send(one)


def _change(sender: ThreadPoolExecutor, recording: Recording, inputs: list[Any], at: int, number: int) -> float:
    sent: list[Future[None]] = []
    seconds = change_time(
        write=lambda: sent.append(sender.submit(_send, recording, inputs)),
        service=number,
        wanted=objects.replacements(at),
        check=lambda: [one.result() for one in sent if one.done()],
    )
    for one in sent:
        one.result()
    return seconds


def _cpu_seconds(sender: ThreadPoolExecutor) -> float:
    """Of the programs that ended, and of the sender's thread."""
    return children_seconds() + sender.submit(time.thread_time).result()
