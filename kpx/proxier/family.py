"""One family's proxier: its desired state, its backend, and when to bring them together.

Families fail apart: nothing here is shared with the other family's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kpx.cluster.events import Key
from kpx.cluster.objects import EndpointSlice, Kind, Service
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.backend import Backend, BackendError, Outcome
from kpx.proxier.desired import Delta, DesiredState, merged
from kpx.proxier.frontends import ServiceName
from kpx.proxier.latency import Triggers
from kpx.proxier.observer import Observer, Sync
from kpx.proxier.runner import SyncSchedule
from kpx.proxier.services import InvalidObject

logger = logging.getLogger(__name__)

# A full sync at least this often, in seconds, mends what no check has noticed.
FULL_SYNC_SECONDS = 3600.0
# How often the kernel is asked whether somebody else changed our rules, in seconds.
DRIFT_CHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Clocks:
    """The times of a proxier: monotonic for intervals, wall for what is compared with the cluster's."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class FamilyProxier:
    """Events in, syncs out. All methods are called on the loop's thread."""

    def __init__(
        self,
        family: Family,
        desired: DesiredState,
        backend: Backend,
        schedule: SyncSchedule,
        observer: Observer,
        clocks: Clocks,
    ) -> None:
        self.family = family
        self._desired = desired
        self._backend = backend
        self._schedule = schedule
        self._observer = observer
        self._clocks = clocks
        self._triggers = Triggers(since=clocks.wall())
        self._unsynced = Delta({}, {})
        self._last_full: float | None = None
        # Whether the kernel may hold anything: at the start, and after a failure.
        self._unknown = True
        self._drift = ""
        self._next_drift_check = 0.0

    def close(self) -> None:
        """Let go of what watches the kernel; the rules stay."""
        self._backend.close()

    # Events.

    def apply_service(self, key: Key, service: Service) -> None:
        try:
            changed = self._desired.tracker.apply_service(service)
        except InvalidObject as error:
            self._observer.rejected(key, str(error))
            changed = True
        self._service_event(changed)

    def remove_service(self, name: ServiceName) -> None:
        self._service_event(self._desired.tracker.remove_service(name))

    def _service_event(self, changed: bool) -> None:
        self._observer.service_event(self.family, self._desired.tracker.pending)
        if changed:
            self.request()

    def apply_slice(self, slice_: EndpointSlice) -> None:
        changed = self._desired.tracker.apply_slice(slice_)
        if slice_.address_type == self.family.value:
            self._observer.slice_event(self.family, changed=changed)
        if changed:
            self._triggers.note(slice_)
            self.request()

    def remove_slice(self, namespace: str, name: str) -> None:
        service = self._desired.tracker.slice_owner(namespace, name)
        if service is None:
            return
        changed = self._desired.tracker.remove_slice(namespace, name)
        self._triggers.forget(service)
        self._observer.slice_event(self.family, changed=changed)
        self.request()

    def in_zone(self, zone: str) -> None:
        if self._desired.in_zone(zone):
            self.request()

    def request(self) -> None:
        """Ask for a sync as soon as the schedule allows one."""
        self._schedule.request()
        self._observer.queued(self.family)

    # Syncs.

    def next_wakeup(self) -> float:
        return min(self._schedule.next_wakeup(), self._next_drift_check)

    def run_due(self) -> None:
        """Do what the time has come for."""
        now = self._clocks.monotonic()
        if now >= self._next_drift_check:
            self._next_drift_check = now + DRIFT_CHECK_SECONDS
            self._check_drift()
        if self._schedule.due(now):
            self.sync()

    def _check_drift(self) -> None:
        if self._last_full is None or self._drift:
            return
        try:
            self._drift = self._backend.drifted() or ""
        except BackendError as error:
            logger.error("%s rules could not be checked: %s", self.family.value, error)
        if self._drift:
            logger.warning("%s rules were changed by somebody else: %s", self.family.value, self._drift)
            self.request()

    def verify(self, reason: str) -> None:
        """Have all rules compared with what they should be, as soon as the schedule allows."""
        self._drift = self._drift or reason
        self.request()

    def sync(self) -> None:
        """Bring the kernel to the desired state now. Never raises for what a kernel or a program refuses."""
        self._schedule.started()
        start = self._clocks.monotonic()
        delta = self._desired.take()
        for conflict in delta.conflicts:
            logger.warning("Service %s", conflict)
        self._unsynced = merged(self._unsynced, delta)
        overdue = self._last_full is not None and start - self._last_full >= FULL_SYNC_SECONDS
        verify = not self._unknown and bool(self._drift or overdue)
        error, outcome = "", None
        try:
            outcome = self._programmed(delta, verify)
        except BackendError as failure:
            error = str(failure)
        end = self._clocks.monotonic()
        self._schedule.finished(end, ok=outcome is not None)
        sync = Sync(
            family=self.family,
            full=verify or self._unknown,
            seconds=end - start,
            delta=self._unsynced,
            frontends=self._desired.frontends,
            outcome=outcome,
            error=error,
            drift=self._drift,
            repaired=outcome.repaired if outcome and verify else (),
            latencies=self._triggers.take(self._clocks.wall()) if outcome else (),
        )
        self._ended(sync, start)

    def _programmed(self, delta: Delta, verify: bool) -> Outcome:
        if self._unknown:
            return self._backend.sync(self._desired.frontends)
        outcome = self._backend.update(delta)
        # After our own change, what still differs is what others did.
        return self._backend.sync(self._desired.frontends) if verify else outcome

    def _ended(self, sync: Sync, start: float) -> None:
        if sync.outcome is None:
            logger.error("%s sync failed, the next one compares all rules: %s", self.family.value, sync.error)
            self._unknown = True
        else:
            self._unsynced = Delta({}, {})
            self._unknown = False
            if sync.full:
                self._last_full, self._drift = start, ""
            for port, reason in sync.outcome.rejected.items():
                key = Key(Kind.SERVICE, port.namespace, port.name)
                self._observer.rejected(key, f"the kernel refuses port {port.port or port.protocol}: {reason}")
        for line in sync.repaired:
            logger.warning("%s repaired: %s", self.family.value, line)
        kind = "full" if sync.full else "partial"
        v(2, logger, "%s %s sync took %.6fs", self.family.value, kind, sync.seconds)
        self._observer.synced(sync)
