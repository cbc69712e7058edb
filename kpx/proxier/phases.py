"""Where the time of a sync goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum


class Phase(Enum):
    """A part of a sync, in their order. What is made while a program already writes counts as `WRITE`."""

    DECIDE = "decide"  # what the cluster's changes ask for
    READ = "read"  # what the kernel holds
    RENDER = "render"  # the rules, and how they differ
    WRITE = "write"


class Phases:
    """The seconds that phases have taken since the last `take`; for one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[Phase, float] = {}

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """What is done within is of this phase, also if it fails."""
        start = self._clock()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + self._clock() - start

    def take(self) -> dict[Phase, float]:
        """The seconds of each phase there was; they count anew from now on."""
        taken, self._seconds = self._seconds, {}
        return taken
