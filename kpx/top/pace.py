"""How often something is read: as often as asked, but never for more than its share of a processor."""

from __future__ import annotations

import math
import os
import time


def processor_seconds() -> float:
    """The processor time that this thread, and the programs that were run, have used so far."""
    times = os.times()
    return time.thread_time() + times.children_user + times.children_system


class Pace:
    """When the next reading is due. A reading that takes much is made less often."""

    def __init__(self, share: float, least: float = 0.0) -> None:
        """`share` is the part of a processor that readings may take, `least` the seconds between two at the least."""
        self._share = share
        self._least = least
        self._due = -math.inf

    def due(self, now: float) -> bool:
        """Whether it is time; `now` is in monotonic seconds."""
        return now >= self._due

    def done(self, started: float, cost: float, least: float = 0.0) -> None:
        """A reading was made that took `cost` seconds of a processor; the next comes `least` seconds later, or more."""
        self._due = started + max(self._least, least, cost / self._share)

    def at_once(self) -> None:
        """Let the next reading be due now: what is asked for has changed."""
        self._due = -math.inf
