"""``kpx trace --probe``: one packet that is sent for the purpose, and followed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kpx.kernel import network_namespaces, undo
from kpx.kernel.nft.connection import Nft
from kpx.net import Family, canonical_ip, family_of
from kpx.trace.live.flow import Flow
from kpx.trace.live.sending import Got, Sender
from kpx.trace.live.tracer import LiveTrace
from kpx.trace.live.wanted import Senders
from kpx.trace.reading.kernel import CannotTrace
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.senders import UnknownSender, find_sender
from kpx.trace.target import Target

# What is followed of it may be told a little after its end: conntrack's last word.
_GRACE_SECONDS, _STEP_SECONDS = 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe is sent from: its name for people, and its network namespace (None: this one)."""

    name: str
    namespace: Path | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What became of a probe: ``flow`` as this node saw it, None if it has not come here; ``got`` as its sender did."""

    target: Target
    place: Place
    port: int
    got: Got
    flow: Flow | None


def probe(target: Target, sender: str, *, seconds: float, path: str = "", folder: Path = undo.FOLDER) -> Probe:
    """Send, and follow. Raises `UnknownSender`, `CannotTrace`, `IptablesError` and `OSError`."""
    if target.protocol == "sctp":
        raise CannotTrace("A probe is sent by TCP or UDP, not by SCTP.")
    with _facts() as facts:
        place, target = find_place(sender, target, facts)
    with (
        closing(Sender(target.protocol, target.address, target.port, place.namespace)) as sending,
        LiveTrace([target], Senders(port=sending.port), patience=seconds, folder=folder) as trace,
        ThreadPoolExecutor(1) as thread,
    ):
        future = thread.submit(sending.send, seconds, path)
        flow = _followed(trace, future)
        return Probe(target, place, sending.port, future.result(), flow)


def _followed(trace: LiveTrace, sent: Future[Got]) -> Flow | None:
    """The flow of a probe; None if it has not come here by some time after its sender's end."""
    end: float | None = None
    while end is None or time.monotonic() < end:
        if flows := trace.step(_STEP_SECONDS):
            return flows[0]
        if end is None and sent.done():
            end = time.monotonic() + _GRACE_SECONDS
    return next(trace.flows(0), None)


@contextmanager
def _facts() -> Iterator[KernelFacts]:
    with Nft() as nft, closing(KernelFacts(nft)) as facts:
        yield facts


def find_place(text: str, target: Target, facts: KernelFacts) -> tuple[Place, Target]:
    """Where to send from, and the target with its address. Raises `UnknownSender`.

    The text is node (or empty), pod, a pod's IP address, or the id of a process in its network namespace.
    """
    if text.isascii() and text.isdigit():
        return Place(f"the network namespace of process {text}", _of_process(text)), _addressed(target, facts)
    if text == "external":
        raise UnknownSender("A probe cannot be sent from outside, only from: node, pod, a pod's IP address or a PID.")
    family = _family(target, text)
    found, destination = find_sender(text or "node", target, family, facts)
    target = replace(target, address=destination)
    if found.kind == "node":
        return Place("this node"), target
    namespace = _holding(found.address)
    return Place(f"pod {found.address}", namespace), target


def _addressed(target: Target, facts: KernelFacts) -> Target:
    if target.address:
        return target
    return replace(target, address=find_sender("node", target, _family(target), facts)[1])


def _family(target: Target, sender: str = "") -> Family:
    return target.family or family_of(target.address or canonical_ip(sender) or "0.0.0.0")


def _of_process(pid: str) -> Path:
    place = network_namespaces.of_process(int(pid))
    try:
        place.stat()
    except OSError as error:
        raise UnknownSender(f"The network namespace of process {pid} cannot be entered: {error.strerror}.") from error
    return place


def _holding(address: str) -> Path:
    try:
        found = network_namespaces.holding(address)
    except PermissionError as error:
        raise CannotTrace(
            "Entering a pod's network namespace needs CAP_SYS_ADMIN: run it as root on the node, or privileged."
        ) from error
    if found is None:
        raise UnknownSender(
            f"No network namespace here has the address {address}: is the pod on this node? In a pod, kpx sees "
            "those of others only with hostPID: true."
        )
    return found
