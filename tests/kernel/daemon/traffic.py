"""A steady stream of connections through Services, in which not one may be lost."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kpx.lab import Lab, namespaces, requests
from kpx.lab.requests import Outcome, Reply, Request
from tests.kernel.daemon.process import DEADLINE_SECONDS

_PAUSE_SECONDS = 0.005
_ENOUGH = 20


@dataclass(frozen=True)
class Target:
    """Where connections go, from a place of the lab, and the pods that may answer."""

    place: str
    address: str
    port: int
    answers: frozenset[str]


TARGETS = (
    Target("a11", "10.96.100.1", 80, frozenset({"a10", "b10"})),
    Target("client", "10.199.0.21", 30080, frozenset({"a12", "b11"})),
    Target("a11", "fd00:96::1001", 80, frozenset({"a10", "b10"})),
)


@dataclass
class Stream:
    """What became of the connections so far."""

    lab: Lab
    targets: Sequence[Target]
    made: Counter[Target] = field(default_factory=Counter)
    lost: list[tuple[Target, Reply]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    broken: str = ""

    def more(self) -> None:
        """Wait until some more connections were made to every target, and some more requests on the open one."""
        before, kept = self.made.copy(), len(self.kept)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(self.kept) < kept + _ENOUGH or any(self.made[one] < before[one] + _ENOUGH for one in self.targets):
            assert time.monotonic() < deadline, f"the stream has dried up: {self.lost} {self.broken}"
            time.sleep(_PAUSE_SECONDS)

    def run(self, stop: threading.Event) -> None:
        """Make a new connection to each target, again and again."""
        wanted = [Request(self.lab.namespace(one.place), "tcp", one.address, one.port) for one in self.targets]
        while not stop.wait(_PAUSE_SECONDS):
            for target, reply in zip(self.targets, requests.send(wanted), strict=True):
                self.made[target] += 1
                if reply.outcome is not Outcome.ANSWERED or reply.answers not in target.answers:
                    self.lost.append((target, reply))

    def keep_open(self, stop: threading.Event) -> None:
        """Make request after request on one connection to the first target."""
        target = self.targets[0]
        connection = http.client.HTTPConnection(target.address, target.port, timeout=5)
        connection.auto_open = 0
        try:
            with namespaces.entered(self.lab.namespace(target.place)):
                connection.connect()
            while not stop.wait(_PAUSE_SECONDS):
                connection.request("GET", "/")
                self.kept.append(json.loads(connection.getresponse().read())["answers"])
        except (OSError, http.client.HTTPException) as error:
            self.broken = repr(error)
        finally:
            connection.close()


@contextmanager
def streaming(lab: Lab, targets: Sequence[Target] = TARGETS) -> Iterator[Stream]:
    """A stream for as long as the block lasts. At its end it is checked that nothing was lost.

    A first segment that was dropped and sent again counts as lost: a client waits a second for it.
    """
    stream, stop = Stream(lab, targets), threading.Event()
    places = {target.place for target in targets}
    before = sum(_repeated(lab, place) for place in places)
    threads = [threading.Thread(target=work, args=(stop,)) for work in (stream.run, stream.keep_open)]
    for thread in threads:
        thread.start()
    try:
        stream.more()
        yield stream
        stream.more()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not stream.lost, stream.lost[:3]
    assert not stream.broken
    assert len(set(stream.kept)) == 1, "the open connection changed its endpoint"
    assert sum(_repeated(lab, place) for place in places) == before, "first segments were lost"


def _repeated(lab: Lab, place: str) -> int:
    """How many first segments were sent again in a place of the lab."""
    with namespaces.entered(lab.namespace(place)):
        text = Path("/proc/thread-self/net/netstat").read_text()
    names, values = (line.split() for line in re.findall("^TcpExt: (.*)$", text, re.M))
    return int(dict(zip(names, values, strict=True))["TCPSynRetrans"])
