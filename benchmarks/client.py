"""The pod that asks: connections that tell which pod answered, or how fast new ones are made."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from benchmarks import objects
from benchmarks.network import CLIENT
from kpx.lab import namespaces

# The longest that an attempt lasts, in seconds. What is not there yet is refused at once; a lost packet is waited for.
_ATTEMPT_SECONDS = 0.05
_CHECK_SECONDS = 1.0
_CHANGE_PAUSE, _CHANGE_DEADLINE, _BETWEEN_CHANGES = 0.001, 60.0, 0.3
_NO_LINGER = struct.pack("ii", 1, 0)


class Unanswered(Exception):
    """Nobody, or not whom was waited for, answered in time."""


@contextmanager
def connection(address: str, port: int, timeout: float = _ATTEMPT_SECONDS) -> Iterator[socket.socket]:
    """A connection from the calling thread's namespace, which is reset at the end: its port is free again at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.settimeout(timeout)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        opened.connect((address, port))
        yield opened


def ask(address: str, port: int) -> str | None:
    """The address of the pod that answers, or None."""
    try:
        with connection(address, port) as opened:
            return opened.recv(64).decode() or None
    except OSError:
        return None


def first_answer(
    service: int, wanted: Collection[str], *, pause: float, deadline: float, check: Callable[[], object]
) -> float:
    """The time (monotonic) at which a pod of `wanted` first answers for a Service; asks every `pause` seconds.

    `check` is called now and then, to raise where waiting is of no use. Raises `Unanswered` at the `deadline`.
    """
    address, checked = objects.cluster_ip(service), time.monotonic()
    with namespaces.entered(CLIENT):
        while ask(address, objects.PORT) not in wanted:
            now = time.monotonic()
            if now > deadline:
                raise Unanswered(f"{address} was not answered by any of {', '.join(wanted)} in time")
            if now - checked > _CHECK_SECONDS:
                checked = now
                check()
            time.sleep(pause)
    return time.monotonic()


def change_time(
    write: Callable[[], object], service: int, wanted: Collection[str], check: Callable[[], object]
) -> float:
    """The seconds from the call of `write`, which begins a change of a Service, until a new pod of it answers."""
    time.sleep(_BETWEEN_CHANGES)
    written = time.monotonic()
    write()
    deadline = written + _CHANGE_DEADLINE
    return first_answer(service, wanted, pause=_CHANGE_PAUSE, deadline=deadline, check=check) - written


def connect_times(addresses: Sequence[str], port: int, seconds: float) -> list[float]:
    """Make connections, one after the other and to one address after the other; how long each took, in seconds."""
    took: list[float] = []
    with namespaces.entered(CLIENT):
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            with connection(addresses[len(took) % len(addresses)], port, timeout=1.0):
                took.append(time.perf_counter() - started)
    return took
