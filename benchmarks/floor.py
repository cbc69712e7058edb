"""The floor: how long the kernel takes for what the daemon writes, when it is sent to it bare.

The daemon's own parts work out what to write. It is recorded in place of being written; then it is sent and timed.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import network, node, objects
from benchmarks.client import change_time
from benchmarks.progress import Progress
from benchmarks.subjects import Recording
from kpx.cluster.events import Key
from kpx.cluster.objects import EndpointSlice, Kind, Node, Service
from kpx.config.arguments import parse_arguments
from kpx.config.effective import effective_configuration
from kpx.lab import namespaces
from kpx.net import Family
from kpx.proxier.family import Clocks, FamilyProxier
from kpx.proxier.observer import Observer, Sync
from kpx.proxier.server import family_proxier
from kpx.proxier.site import Mode
from kpx.proxier.surroundings import surroundings


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds: for all rules of the cluster, for each of the changes, and of the processors for a change."""

    start: float
    changes: list[float]
    cpu_per_change: float


def measure(here: node.Node, services: int, changes: list[int], progress: Progress) -> Floor:
    """Write what the daemon would write for the cluster, and for new endpoints of the Services `changes`.

    The node must not have any rules yet.
    """
    with namespaces.entered(network.NODE):
        progress.step("floor: working out what to write")
        recording = here.subject.recording()
        proxier = _proxier(here.config, recording.mode, services)
        try:
            proxier.sync()
            whole = recording.take()
            parts = [_recorded_change(recording, proxier, at, number) for at, number in enumerate(changes)]
        finally:
            proxier.close()
    with ThreadPoolExecutor(1, initializer=lambda: namespaces.enter(network.NODE)) as sender:
        progress.step("floor: writing all rules")
        started = time.monotonic()
        sender.submit(_send, recording, whole).result()
        start = time.monotonic() - started
        progress.step("floor: writing changes")
        before = _cpu_seconds(sender)
        seconds = [
            _change(sender, recording, part, at, number)
            for at, (number, part) in enumerate(zip(changes, parts, strict=True))
        ]
        used = _cpu_seconds(sender) - before
    return Floor(start, seconds, used / len(changes))


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
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + sender.submit(time.thread_time).result()


def _recorded_change(recording: Recording, proxier: FamilyProxier, at: int, number: int) -> list[Any]:
    proxier.apply_slice(_slice(number, objects.replacements(at)))
    proxier.sync()
    return recording.take()


def _proxier(config: Path, mode: Mode, services: int) -> FamilyProxier:
    """The daemon's proxier for IPv4, which has been told of the whole cluster and has not synced yet."""
    effective, _ = effective_configuration(parse_arguments(["--config", str(config)]))
    here = surroundings(effective, mode, objects.NODE, msgspec.convert(objects.node(), Node))
    proxier = family_proxier(effective, mode, here.site(Family.IPV4), here, _Failures(), Clocks())
    for number in range(services):
        service = msgspec.convert(objects.service(number), Service)
        proxier.apply_service(Key(Kind.SERVICE, service.metadata.namespace, service.metadata.name), service)
        proxier.apply_slice(_slice(number, objects.endpoints(number)))
    return proxier


def _slice(number: int, addresses: list[str]) -> EndpointSlice:
    return msgspec.convert(objects.endpoint_slice(number, addresses), EndpointSlice)


class _Failures(Observer):
    def synced(self, sync: Sync) -> None:
        if not sync.ok:
            raise OSError(f"what to write could not be worked out: {sync.error}")
