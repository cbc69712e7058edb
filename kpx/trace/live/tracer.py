"""A live trace, from its start to its end."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from kpx.kernel import conntrack_events, undo
from kpx.kernel.headers import Headers
from kpx.kernel.iptables.program import legacy_tables
from kpx.kernel.iptables.watch import legacy_socket, table_entries
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket
from kpx.kernel.nft.connection import Nft
from kpx.kernel.undo import Undo
from kpx.net import Family
from kpx.trace.live.assembly import Assembly
from kpx.trace.live.flow import Flow
from kpx.trace.live.here import interface_name
from kpx.trace.live.naming import Names
from kpx.trace.live.opened import Open
from kpx.trace.live.opening import Sources
from kpx.trace.live.telling import backend_of, told
from kpx.trace.live.virtual import served
from kpx.trace.live.wanted import Senders, wanted
from kpx.trace.reading.kernel import CannotTrace
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.rules import KernelRules
from kpx.trace.target import Target

RATE = 100
PATIENCE_SECONDS = 2.0

_NO_PRIVILEGE = (
    "Following packets needs root (CAP_NET_ADMIN): run it with sudo, or in a privileged container on the node's "
    "network (hostNetwork)."
)


class LiveTrace:
    """The flows to some targets in the network namespace of the thread that starts it, as they come.

    ``with LiveTrace(targets) as trace: for flow in trace.flows(): ...``. Of each target at most `rate` first packets a
    second are followed; a flow is told when it is answered or its way has ended, or after `patience` seconds without an
    answer. All methods are for one thread, but for `stop`.

    Once it is started, ``changes`` says what it has changed in the kernel until its end, and ``notes`` what cannot be
    told here.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        senders: Senders | None = None,
        *,
        rate: int = RATE,
        patience: float = PATIENCE_SECONDS,
        folder: Path = undo.FOLDER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._senders = senders or Senders()
        self._targets = tuple(targets)
        self._wanted = wanted(targets, self._senders)
        self._rate = rate
        self._folder = folder
        self._clock = clock
        self._assembly = Assembly(self._is_wanted, patience)
        self._stack = ExitStack()
        self._stopped = threading.Event()
        self._waker: socket.socket | None = None
        self.notes: Sequence[str] = ()
        self.changes: Sequence[str] = ()

    def start(self) -> None:
        """Let the kernel report. Raises `CannotTrace` and `OSError`."""
        try:
            with ExitStack() as stack:
                self._start(stack)
                self._stack = stack.pop_all()
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES):
                raise
            raise CannotTrace(_NO_PRIVILEGE) from error

    def _start(self, stack: ExitStack) -> None:
        if not self._wanted:
            raise CannotTrace("The sender and the targets are of different IP families: no packet can come from there.")
        undo.leftovers(self._folder)
        self._waking, self._waker = (stack.enter_context(one) for one in socket.socketpair())
        self._nft = stack.enter_context(Nft())
        self._conntrack = stack.enter_context(Socket(NETLINK_NETFILTER))
        self._facts = KernelFacts(self._nft)
        stack.callback(self._facts.close)
        taken_back = Undo(self._folder)
        stack.callback(taken_back.close)
        names = cache(self._names)
        sources = Sources(self._wanted, self._senders, self._rate, names, taken_back, stack)
        self._sources, self.notes, self.changes = sources.all, sources.notes, sources.changes

    def _names(self, family: Family) -> Names:
        return Names(lambda: KernelRules(family, self._nft, self._facts), lambda: _legacy_state(family))

    def stop(self) -> None:
        """End `flows`, from whatever thread."""
        self._stopped.set()
        if self._waker is not None:
            with suppress(OSError):  # it has been closed
                self._waker.send(b".")

    def close(self) -> None:
        """Take back all that was changed."""
        self._stack.close()

    def __enter__(self) -> LiveTrace:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def lost(self) -> int:
        """How often reports were lost since they came faster than they were read."""
        return sum(source.lost for source in self._sources)

    def flows(self, seconds: float | None = None) -> Iterator[Flow]:
        """The flows, as they are known; for so many seconds, or until `stop`."""
        end = None if seconds is None else self._clock() + seconds
        while not self._stopped.is_set():
            left = None if end is None else end - self._clock()
            if left is not None and left <= 0:
                break
            yield from self.step(left)
        yield from self._tell(self._assembly.due(self._clock(), all_of_them=True))

    def step(self, timeout: float | None = None) -> list[Flow]:
        """The flows that are known after the next reports, or after `timeout` seconds."""
        self._wait(timeout)
        now = self._clock()
        for source in self._sources:
            source.drain(self._assembly, now)
        return self._tell(self._assembly.due(now))

    def _wait(self, timeout: float | None) -> None:
        due = self._assembly.next_due()
        limits = [one for one in (timeout, None if due is None else due - self._clock()) if one is not None]
        reading = [self._waking.fileno(), *(source.fileno() for source in self._sources)]
        select.select(reading, [], [], max(0.0, min(limits)) if limits else None)

    def _tell(self, flows: Sequence[Open]) -> list[Flow]:
        return [self._told(self._looked_up(flow)) for flow in flows]

    def _looked_up(self, flow: Open) -> Open:
        """With what conntrack holds: it announces nothing of an old connection, nor of an answer that is dropped."""
        if not (flow.answered or flow.gone or flow.ended):
            flow.found = conntrack_events.lookup(self._conntrack, flow.key)
        return flow

    def _told(self, flow: Open) -> Flow:
        virtual = None if flow.ended else served(flow.key, backend_of(flow), self._facts)
        waited = self._clock() - flow.at
        shown = told(flow, time.time() - waited, waited, interface_name(flow.incoming), virtual)
        return replace(shown, name=self._called(shown))

    def _called(self, flow: Flow) -> str:
        """The name of the target that was found by a name; of a node port, any address is."""
        return next(
            (
                one.name
                for one in self._targets
                if (one.port, one.protocol) == (flow.target.port, flow.protocol)
                and one.address in ("", flow.target.address)
            ),
            "",
        )

    def _is_wanted(self, headers: Headers) -> bool:
        return any(
            one.protocol == headers.protocol
            and one.port == headers.destination_port
            and one.source in ("", headers.source)
            and one.source_port in (0, headers.source_port)
            and (one.address == headers.destination or (not one.address and self._is_own(headers.destination)))
            for one in self._wanted
        )

    def _is_own(self, address: str) -> bool:
        return self._facts.address_type(address) == "local"


def _legacy_state(family: Family) -> object:
    """What changes with the legacy tables: how many entries they have."""
    tables = legacy_tables(family)
    if not tables:
        return ()
    with legacy_socket(family) as asking:
        return tuple((table, table_entries(asking, table)) for table in tables)
