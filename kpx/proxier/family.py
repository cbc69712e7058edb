"""One family's proxier: its desired state, its backend, and when to bring them together.

Families fail apart: nothing here is shared with the other family's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kpx.cluster.events import Key
from kpx.cluster.objects import EndpointSlice, Service
from kpx.logs import v
from kpx.net import Family, canonical_network, family_of
from kpx.proxier.backend import Backend, BackendError, Outcome
from kpx.proxier.desired import Delta, DesiredState, merged
from kpx.proxier.frontends import ServiceName
from kpx.proxier.latency import Triggers
from kpx.proxier.observer import Observer, Sync
from kpx.proxier.phases import Phase, Phases
from kpx.proxier.runner import SyncSchedule
from kpx.proxier.services import InvalidObject

logger = logging.getLogger(__name__)

# A full sync at least this often, in seconds, mends what no check has noticed.
FULL_SYNC_SECONDS = 3600.0
# How often the kernel is asked whether somebody else changed our rules, in seconds.
DRIFT_CHECK_SECONDS = 1.0
_LONGEST_DRIFT_PAUSE = 8.0


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
        self._phases = Phases(clocks.monotonic)
        self._triggers = Triggers(since=clocks.wall())
        self._unsynced = Delta({}, {})
        self._last_full: float | None = None
        # Why the kernel may hold anything: at the start, and after a failure.
        self._unknown = "the first sync"
        # What others seem to have done to our rules, and the other reason to compare all rules, if there is one.
        self._drift = ""
        self._recheck = ""
        self._next_drift_check = 0.0
        self._drift_pause = DRIFT_CHECK_SECONDS

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

    def service_cidrs(self, networks: Iterable[str]) -> None:
        """ClusterIPs are taken from these networks, of any family."""
        canonical = filter(None, map(canonical_network, networks))
        if self._backend.service_cidrs(tuple(sorted({one for one in canonical if family_of(one) is self.family}))):
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
            self._next_drift_check = now + self._drift_pause
            self._check_drift()
            self._tend()
        if self._schedule.due(now):
            self.sync()

    def _check_drift(self) -> None:
        if self._last_full is not None and not self._drift and self._drifted():
            v(2, logger, "%s rules may have been changed by somebody else: %s", self.family.value, self._drift)
            self.request()

    def _drifted(self) -> bool:
        """Whether others seem to have changed our rules since they were last compared."""
        try:
            self._drift = self._drift or self._backend.drifted() or ""
        except BackendError as error:
            logger.error("%s rules could not be checked: %s", self.family.value, error)
        return bool(self._drift)

    def _tend(self) -> None:
        try:
            self._backend.tend()
        except BackendError as error:
            logger.error("%s: what waited could not be finished: %s", self.family.value, error)

    def verify(self, reason: str) -> None:
        """Have all rules compared with what they should be, as soon as the schedule allows."""
        v(2, logger, "all %s rules are compared: %s", self.family.value, reason)
        self._recheck = reason
        self.request()

    def sync(self) -> None:
        """Bring the kernel to the desired state now. Never raises for what a kernel or a program refuses."""
        self._schedule.started()
        start = self._clocks.monotonic()
        with self._phases.timed(Phase.DECIDE):
            delta = self._desired.take()
        for conflict in delta.conflicts:
            logger.warning("Service %s", conflict)
        self._unsynced = merged(self._unsynced, delta)
        error, outcome = "", None
        try:
            outcome = self._programmed(delta, start)
        except BackendError as failure:
            error = str(failure)
        end = self._clocks.monotonic()
        phases = self._phases.take() | self._backend.phases()
        self._schedule.finished(end, ok=outcome is not None)
        found = self._found(outcome, start)
        sync = Sync(
            family=self.family,
            full=bool(self._unknown) or self._doubtful(start),
            seconds=end - start,
            phases={**phases, Phase.RENDER: max(end - start - sum(phases.values()), 0.0)},
            delta=self._unsynced,
            frontends=self._desired.frontends,
            outcome=outcome,
            error=error,
            drift=self._told(found, error),
            repaired=found,
            latencies=self._triggers.take(self._clocks.wall()) if outcome else (),
            conflicts=self._desired.conflicts,
            reason=self._reason(start),
        )
        self._ended(sync, start)

    def _programmed(self, delta: Delta, now: float) -> Outcome:
        if self._unknown:
            return self._backend.sync(self._desired.frontends)
        try:
            outcome = self._backend.update(delta)
        except BackendError:
            # What others removed cannot be changed.
            if not self._drifted():
                raise
            return self._backend.sync(self._desired.frontends)
        # A change that met what others did has had all rules compared.
        compared = outcome.repaired and self._drifted()
        if compared or not self._doubtful(now):
            return outcome
        # After our own change, what still differs is what others did.
        return self._backend.sync(self._desired.frontends)

    def _reason(self, now: float) -> str:
        """Why a sync is full, or else why there is one."""
        if self._unknown or self._recheck:
            return self._unknown or self._recheck
        if self._drift:
            return "somebody else changed the rules"
        if self._overdue(now):
            return f"the last full sync was {FULL_SYNC_SECONDS:.0f} s ago"
        return "the cluster changed" if self._unsynced.now else "asked for; no service port differs"

    def _doubtful(self, now: float) -> bool:
        return bool(self._drift or self._recheck or self._overdue(now))

    def _overdue(self, now: float) -> bool:
        return self._last_full is not None and now - self._last_full >= FULL_SYNC_SECONDS

    def _told(self, found: tuple[str, ...], error: str) -> str:
        """What others did, where it made a difference, or where that could not be seen."""
        if found:
            return self._drift or "it was not noticed"
        return self._drift if error else ""

    def _found(self, outcome: Outcome | None, now: float) -> tuple[str, ...]:
        """What others had done to our rules, line by line."""
        by_others = not self._unknown and (self._drift or self._overdue(now))
        return outcome.repaired if outcome and by_others else ()

    def _pace_checks(self, *, looked: bool, found: bool) -> None:
        """A look that was for nothing puts the next one off: others may change rules beside ours all the time."""
        if found or not looked:
            self._drift_pause = DRIFT_CHECK_SECONDS
        else:
            self._drift_pause = min(2 * self._drift_pause, _LONGEST_DRIFT_PAUSE)

    def _ended(self, sync: Sync, start: float) -> None:
        drifted = bool(self._drift)
        if sync.outcome is None:
            logger.error("%s sync failed, the next one compares all rules: %s", self.family.value, sync.error)
            self._unknown = "the last sync failed"
        else:
            self._unsynced = Delta({}, {})
            self._unknown = ""
            if sync.full:
                self._last_full, self._drift, self._recheck = start, "", ""
        self._pace_checks(looked=drifted, found=bool(sync.repaired))
        if sync.drift:
            logger.warning("%s rules were changed by somebody else: %s", self.family.value, sync.drift)
        for line in sync.repaired:
            logger.warning("%s repaired: %s", self.family.value, line)
        kind = "full" if sync.full else "partial"
        v(2, logger, "%s %s sync took %.6fs", self.family.value, kind, sync.seconds)
        self._observer.synced(sync)
