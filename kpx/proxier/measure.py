"""The observer that counts and times what the proxier does."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable

from kpx.cluster.events import Key
from kpx.cluster.objects import Kind
from kpx.net import Family
from kpx.proxier.backend import Outcome
from kpx.proxier.frontends import Frontends, Scope, ServicePortName
from kpx.proxier.metrics import Metrics
from kpx.proxier.observer import Observer, Sync

logger = logging.getLogger(__name__)


class Measure(Observer):
    """Keeps the `Metrics` of a proxy mode, and names in the log what was left out."""

    def __init__(self, metrics: Metrics, mode: str, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._mode = mode
        self._wall = wall
        # By family and policy: what has no local endpoint, with the number of its ports.
        self._no_local: dict[tuple[Family, str], Counter[Hashable]] = {}
        self._told: dict[Key, str] = {}
        # The Services of which the kernel refused a port, by family; what is programmed now is refused no more.
        self._refused: dict[Family, set[Key]] = {}

    def service_event(self, family: Family, pending: int) -> None:
        self._metrics.service_changes.inc()
        self._metrics.service_changes_pending.set(pending)

    def slice_event(self, family: Family, *, changed: bool) -> None:
        self._metrics.endpoint_changes.inc()
        if changed:
            self._metrics.endpoint_changes_pending.inc()

    def rejected(self, key: Key, reason: str) -> None:
        self._leave_out(key, reason)

    def accepted(self, key: Key) -> None:
        if not any(key in refused for refused in self._refused.values()):
            self._use(key)

    def _leave_out(self, key: Key, reason: str) -> None:
        self._metrics.object_rejected(key.kind.value, key.namespace, key.name)
        if self._told.get(key) != reason:
            self._told[key] = reason
            logger.error("%s %s/%s is left out: %s", key.kind.value, key.namespace, key.name, reason)

    def _use(self, key: Key) -> None:
        self._metrics.object_accepted(key.kind.value, key.namespace, key.name)
        self._told.pop(key, None)

    def queued(self, family: Family) -> None:
        self._metrics.last_queued.labels(family.value).set(self._wall())

    def synced(self, sync: Sync) -> None:
        family, metrics = sync.family.value, self._metrics
        metrics.sync_duration.labels(family).observe(sync.seconds)
        (metrics.full_sync_duration if sync.full else metrics.partial_sync_duration).labels(family).observe(
            sync.seconds
        )
        metrics.address_conflicts.labels(family).inc(len(sync.delta.conflicts))
        if sync.drift:
            metrics.drift_found.labels(family).inc()
        if sync.outcome is None:
            self._failed(sync)
            return
        metrics.endpoint_changes_pending.set(0)
        metrics.service_changes_pending.set(0)
        metrics.last_sync.labels(family).set(self._wall())
        metrics.drift_repaired.labels(family).inc(sync.outcome.repairs if sync.repaired else 0)
        for seconds in sync.latencies:
            metrics.network_programming_duration.labels(family).observe(seconds)
        if self._mode == "iptables":
            for table, count in sync.outcome.owned.items():
                metrics.iptables_owned.labels(family, table).set(count)
                metrics.iptables_written.labels(family, table).set(sync.outcome.written.get(table, 0))
        if sync.outcome.unremoved:
            metrics.nftables_cleanup_failures.labels(family).inc()
        self._count_no_local(sync)
        self._note_refused(sync, sync.outcome)

    def _note_refused(self, sync: Sync, outcome: Outcome) -> None:
        refused = {_service(port): reason for port, reason in outcome.rejected.items()}
        tried = sync.frontends if sync.full else sync.delta.now
        before = self._refused.get(sync.family, set())
        self._refused[sync.family] = (before - {_service(port) for port in tried}) | refused.keys()
        for key, reason in refused.items():
            self._leave_out(key, f"the kernel refuses it: {reason}")
        for key in before - self._refused[sync.family]:
            self.accepted(key)

    def _failed(self, sync: Sync) -> None:
        failures, partial_failures = self._metrics.failures[self._mode]
        failures.labels(sync.family.value).inc()
        if partial_failures and not sync.full:
            partial_failures.labels(sync.family.value).inc()

    def _count_no_local(self, sync: Sync) -> None:
        for policy in ("internal", "external"):
            lacking = self._no_local.setdefault((sync.family, policy), Counter())
            for port, now in sync.delta.now.items():
                # kube-proxy counts service ports, but Services in mode ipvs.
                counted = port.service if self._mode == "ipvs" else port
                lacking[counted] += _lacks_local(now, policy) - _lacks_local(sync.delta.before[port], policy)
                if not lacking[counted]:
                    del lacking[counted]
            self._metrics.no_local_endpoints.labels(sync.family.value, policy).set(len(lacking))


def _service(port: ServicePortName) -> Key:
    return Key(Kind.SERVICE, port.namespace, port.name)


def _lacks_local(frontends: Frontends | None, policy: str) -> bool:
    """Whether a service port has endpoints, but none here for the traffic of a policy that wants them here."""
    if frontends is None or not frontends.has_endpoints or frontends.local:
        return False
    scope = frontends.internal_scope if policy == "internal" else frontends.external_scope
    return scope is Scope.LOCAL
