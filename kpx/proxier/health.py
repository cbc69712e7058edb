"""What the health servers report: whether the proxier keeps up, and whether the node should get new traffic.

Source: kube-proxy 1.36.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kpx.cluster.objects import Node
from kpx.net import Family

_AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"
_ZERO_TIME = "0001-01-01T00:00:00Z"
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FamilyHealth:
    """Health of one family; ``last_updated`` is in nanoseconds since 1970."""

    last_updated: int
    healthy: bool


@dataclass(frozen=True, slots=True)
class Health:
    """Health of the proxier at a time (nanoseconds since 1970), by family; families that never synced are absent."""

    now: int
    families: Mapping[Family, FamilyHealth] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return all(family.healthy for family in self.families.values())


class ProxyHealth:
    """Whether each family applies what is asked of it: unhealthy is one whose oldest request waits too long.

    Thread-safe. `sync_period` is in seconds; a request may wait for two of them.
    """

    def __init__(
        self,
        sync_period: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._patience = 2 * sync_period
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._last_updated: dict[Family, int] = {}
        self._pending_since: dict[Family, float] = {}

    def queued(self, family: Family) -> None:
        """A sync was requested."""
        with self._lock:
            self._pending_since.setdefault(family, self._monotonic())

    def updated(self, family: Family) -> None:
        """The sync loop started, or a sync succeeded: nothing is pending."""
        with self._lock:
            self._pending_since.pop(family, None)
            self._last_updated[family] = self._wall()

    def status(self) -> Health:
        with self._lock:
            now = self._monotonic()
            return Health(
                self._wall(),
                {
                    family: FamilyHealth(updated, now - self._pending_since.get(family, now) < self._patience)
                    for family, updated in sorted(self._last_updated.items(), key=lambda item: item[0].value)
                },
            )


class NodeEligibility:
    """Whether load balancers should send new connections to this node.

    Not before the rules of all families in `awaiting` have been programmed once (kube-proxy says yes before that),
    and never while its Node object is unknown, being deleted, or marked by the cluster autoscaler for removal.
    """

    def __init__(self, awaiting: Iterable[Family] = ()) -> None:
        self._awaiting = set(awaiting)
        self._eligible = False

    def __bool__(self) -> bool:
        return self._eligible and not self._awaiting

    def programmed(self, family: Family) -> None:
        """The rules of a family are in the kernel."""
        self._awaiting.discard(family)

    def update(self, node: Node | None) -> None:
        """The Node object is now like this; None, for a deleted one, leaves the judgement as it was."""
        if node is not None:
            taints = {taint.key for taint in node.spec.taints or ()}
            self._eligible = node.metadata.deletion_timestamp is None and _AUTOSCALER_TAINT not in taints


def health_body(health: Health, *, ok: bool, eligible: bool | None) -> bytes:
    """The body of /healthz, or of /livez if `eligible` is None. `ok` says that the answer is 200."""
    latest = max((family.last_updated for family in health.families.values()), default=0)
    body: dict[str, object] = {
        "lastUpdated": rfc3339(health.now if ok else latest),
        "currentTime": rfc3339(health.now),
    }
    if eligible is not None:
        body["nodeEligible"] = eligible
    body["healthy"] = health.healthy
    if health.families:
        body["status"] = {
            family.value: {"lastUpdated": rfc3339(one.last_updated), "healthy": one.healthy}
            for family, one in health.families.items()
        }
    return json.dumps(body, separators=(",", ":")).encode()


def service_body(namespace: str, name: str, local_endpoints: int, *, healthy: bool) -> bytes:
    """The body of a Service's health-check node port."""
    body = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": healthy,
    }
    return json.dumps(body, indent="\t").encode()


def rfc3339(nanoseconds: int) -> str:
    """A time as Go prints it: nanoseconds without trailing zeros; 0 stands for Go's zero time."""
    if not nanoseconds:
        return _ZERO_TIME
    seconds, fraction = divmod(nanoseconds, _NANOSECONDS)
    decimals = f".{fraction:09d}".rstrip("0") if fraction else ""
    return time.strftime(f"%Y-%m-%dT%H:%M:%S{decimals}Z", time.gmtime(seconds))
