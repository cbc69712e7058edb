"""The one thread that reads the node, beside the one that draws."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Protocol

from kpx.top.snapshot import Focus, Snapshot

_END_SECONDS = 2.0
FASTEST, SLOWEST = 0.2, 60.0


class Reader(Protocol):
    """What is read from."""

    def read(self, focus: Focus) -> Snapshot:
        """Read what is due; it never fails."""


class Sampler:
    """Reads every `interval` seconds, and at once when somebody looks at something else."""

    def __init__(self, reader: Reader, interval: float) -> None:
        self.interval = interval
        self._reader = reader
        self._focus = Focus()
        self._wake = threading.Event()
        self._handing_over = threading.Lock()
        self._deliver: Callable[[Snapshot], None] | None = None
        self._latest: Snapshot | None = None
        self._stopping = False
        # A reading may wait for an API server: that must not keep the program from ending.
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to read, in the network namespace of the calling thread, while what draws is still made ready."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="top-sampler", daemon=True)
            self._thread.start()

    def start(self, deliver: Callable[[Snapshot], None]) -> None:
        """Call `deliver` with each snapshot, on the reading thread; with one that is there already at once."""
        with self._handing_over:
            self._deliver = deliver
            if self._latest is not None:
                deliver(self._latest)
        self.begin()

    def look(self, focus: Focus) -> None:
        """Somebody looks at this now."""
        changed, self._focus = focus != self._focus, focus
        if changed:
            self._wake.set()

    def change_interval(self, factor: float) -> float:
        """Read more or less often; returns the seconds between two readings now."""
        self.interval = min(max(self.interval * factor, FASTEST), SLOWEST)
        self._wake.set()
        return self.interval

    def stop(self) -> None:
        """End, after the reading that is being made, if that does not take long."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        settled = False
        while not self._stopping:
            self._wake.clear()
            snapshot = self._reader.read(self._focus)
            if self._stopping:
                return
            with self._handing_over:
                self._latest = snapshot
                if self._deliver is not None:
                    self._deliver(snapshot)
            if snapshot.services and not settled:
                # The rows of 10,000 Services live on: the collector would look at all of them again and again, for a
                # fifth of a second each time in which nothing is drawn.
                settled = True
                gc.freeze()
                continue
            self._wake.wait(self.interval)
