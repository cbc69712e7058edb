"""When to sync: at once after a quiet time, never in bursts, and again after a failure or a long silence.

Pure: it is told the time and tells when. Source: kube-proxy 1.36's BoundedFrequencyRunner.
"""

from __future__ import annotations

import math


class SyncSchedule:
    """The rate limiter of one family's syncs. Times are in seconds of one monotonic clock.

    After a run has *finished* nothing runs for `minimum`; a requested run comes then, a failed one is repeated after
    `retry` (or `maximum` if that is less), and without either there is a run after `maximum`. Any run, requested or
    not, starts these times anew.
    """

    def __init__(self, *, minimum: float, retry: float, maximum: float, now: float) -> None:
        if maximum < minimum:
            raise ValueError(f"the longest time between syncs ({maximum} s) is below the shortest ({minimum} s)")
        self._minimum = minimum
        self._retry = min(retry, maximum)
        self._maximum = maximum
        self._allowed = -math.inf
        self._overdue = now + maximum
        self._requested = False

    def request(self) -> None:
        """Ask for a run; requests that come before it starts are merged."""
        self._requested = True

    def next_wakeup(self) -> float:
        """The time of the next run if nothing else is requested; ``-inf`` for a request after a quiet time."""
        return self._allowed if self._requested else max(self._allowed, self._overdue)

    def due(self, now: float) -> bool:
        return now >= self.next_wakeup()

    def started(self) -> None:
        """A run starts: it serves all requests so far."""
        self._requested = False

    def finished(self, now: float, *, ok: bool) -> None:
        """The run that was `started` is over."""
        self._allowed = now + self._minimum
        self._overdue = now + (self._maximum if ok else self._retry)
