"""Real packets to a service port, followed on a thread of their own while somebody looks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from kpx.kernel.iptables.program import IptablesError
from kpx.tools.services import Row
from kpx.top.snapshot import Followed
from kpx.trace.live.flow import Flow
from kpx.trace.live.here import senders_here
from kpx.trace.live.tracer import LiveTrace
from kpx.trace.reading.kernel import CannotTrace
from kpx.trace.reading.senders import UnknownSender
from kpx.trace.target import Target

_KEPT = 50
_END_SECONDS = 3.0


class Follower:
    """A live trace that is armed from `start` to `stop`; what it has seen can be asked for at any time."""

    def __init__(self, targets: Sequence[Target], sender: str, changed: Callable[[], None]) -> None:
        """`changed` is called on the thread after a flow was seen."""
        self._targets, self._sender, self._changed = targets, sender, changed
        self._flows: deque[Flow] = deque(maxlen=_KEPT)
        self._seen = 0
        self._error = ""
        self._trace: LiveTrace | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top-live", daemon=True)

    def start(self) -> None:
        """Arm it, in the network namespace of the calling thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let it take back what was armed; `join` waits for that."""
        self._stopping.set()
        if self._trace is not None:
            self._trace.stop()

    def join(self) -> None:
        self._thread.join(_END_SECONDS)

    def seen(self) -> Followed:
        """What was seen so far, the newest first."""
        trace = self._trace
        return Followed(
            tuple(reversed(self._flows)),
            self._seen,
            tuple(trace.changes) if trace else (),
            tuple(trace.notes) if trace else (),
            self._error,
        )

    def _run(self) -> None:
        try:
            with LiveTrace(self._targets, senders_here(self._sender)) as trace:
                self._trace = trace
                self._changed()
                if self._stopping.is_set():
                    return
                for flow in trace.flows():
                    self._flows.append(flow)
                    self._seen += 1
                    self._changed()
        except (CannotTrace, UnknownSender, IptablesError, OSError) as error:
            self._error = str(error)
            self._changed()


def targets(row: Row) -> list[Target]:
    """All addresses that a service port answers on. Pure."""
    found = [Target(one.address or "", one.port, row.protocol.lower(), row.full_name) for one in row.addresses]
    return list(dict.fromkeys(found))
