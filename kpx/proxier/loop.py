"""The one thread that owns the state: takes events from the sources, and syncs each family when it is due."""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Iterable, Sequence
from typing import assert_never

from kpx.cluster.events import Applied, Event, Key, Rejected, Removed, Synced
from kpx.cluster.objects import EndpointSlice, Kind, Node, Object, Service, ServiceCIDR
from kpx.logs import v
from kpx.proxier.family import Clocks, FamilyProxier
from kpx.proxier.frontends import ServiceName
from kpx.proxier.node import zone_of
from kpx.proxier.observer import Observer

logger = logging.getLogger(__name__)

# Events taken in one go before it is looked whether a sync is due.
_BURST = 10_000


class Stop:
    """Put into the inbox, it ends the loop. With an error, the loop ends with it: the process is to be restarted."""

    def __init__(self, error: str = "") -> None:
        self.error = error


class Verify:
    """Put into the inbox, it has all rules compared with what they should be."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Resync:
    """Put into the inbox, it has all families sync again: something beside the rules is to be tried once more."""


Command = Stop | Verify | Resync
Inbox = queue.SimpleQueue[Event | Command]


class ProxyStopped(Exception):
    """The proxy must be started anew; the text says why."""


class Loop:
    """Events in, syncs out, for all families. Nothing is programmed before the first list of every kind is complete.

    `backlog` are events that were taken from the inbox before.
    """

    def __init__(
        self,
        inbox: Inbox,
        families: Sequence[FamilyProxier],
        observer: Observer,
        clocks: Clocks,
        backlog: Iterable[Event] = (),
    ) -> None:
        self._inbox = inbox
        self._families = families
        self._observer = observer
        self._clocks = clocks
        self._backlog = deque(backlog)
        self._awaited = set(Kind)
        self._networks: dict[Key, ServiceCIDR] = {}

    def run(self) -> None:
        """Run until a `Stop` arrives; raises `ProxyStopped` if it comes with an error."""
        while self.step():
            pass

    def step(self) -> bool:
        """Take what has arrived, or wait for something to do, and do it. False after a `Stop`."""
        for event in self._events():
            if isinstance(event, Stop):
                if event.error:
                    raise ProxyStopped(event.error)
                return False
            self._handle(event)
        if not self._awaited:
            for family in self._families:
                family.run_due()
        return True

    def _events(self) -> Iterable[Event | Command]:
        """What has arrived; waits for it no longer than until the next sync is due."""
        while self._backlog:
            yield self._backlog.popleft()
        wakeup = min((family.next_wakeup() for family in self._families), default=0.0)
        timeout = None if self._awaited else max(wakeup - self._clocks.monotonic(), 0.0)
        try:
            yield self._inbox.get(timeout=timeout) if timeout != 0.0 else self._inbox.get_nowait()
            for _ in range(_BURST):
                yield self._inbox.get_nowait()
        except queue.Empty:
            return

    def _handle(self, event: Event | Command) -> None:
        match event:
            case Verify():
                for family in self._families:
                    family.verify(event.reason)
            case Resync():
                for family in self._families:
                    family.request()
            case Applied(key, thing):
                self._observer.accepted(key)
                self._applied(key, thing)
            case Removed(key):
                self._observer.accepted(key)
                self._removed(key)
            case Rejected(key, reason):
                self._observer.rejected(key, reason)
            case Synced(kind):
                self._synced(kind)
            case Stop():
                raise AssertionError("the loop takes it itself")
            case _:
                assert_never(event)

    def _applied(self, key: Key, thing: Object) -> None:
        match thing:
            case Service():
                for family in self._families:
                    family.apply_service(key, thing)
            case EndpointSlice():
                for family in self._families:
                    family.apply_slice(thing)
            case Node():
                self._node(thing)
            case ServiceCIDR():
                self._service_cidrs({**self._networks, key: thing})

    def _removed(self, key: Key) -> None:
        match key.kind:
            case Kind.SERVICE:
                for family in self._families:
                    family.remove_service(ServiceName(key.namespace, key.name))
            case Kind.ENDPOINT_SLICE:
                for family in self._families:
                    family.remove_slice(key.namespace, key.name)
            case Kind.NODE:
                logger.error("Node %s was deleted; its last known state stays in use", key.name)
            case Kind.SERVICE_CIDR:
                self._service_cidrs({one: known for one, known in self._networks.items() if one != key})

    def _synced(self, kind: Kind) -> None:
        v(2, logger, "the first list of %s is complete", kind.value)
        self._awaited.discard(kind)
        if not self._awaited:
            for family in self._families:
                family.sync()

    def _service_cidrs(self, networks: dict[Key, ServiceCIDR]) -> None:
        self._networks = networks
        cidrs = [cidr for one in networks.values() for cidr in one.spec.cidrs or ()]
        for family in self._families:
            family.service_cidrs(cidrs)

    def _node(self, node: Node) -> None:
        self._observer.node(node)
        for family in self._families:
            family.in_zone(zone_of(node))
