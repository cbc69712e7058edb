"""Frontends and what became of them as JSON, as the daemon tells them and the tools read them (docs/json.md).

Names and meanings here are a promise: fields may be added, none changes or goes while `API_VERSION` stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kpx.net import Family
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Scope, ServicePortName

API_VERSION = "kpx/v1"


class _Published(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Base of what is told."""


class PublishedEndpoint(_Published, frozen=True):
    """An endpoint, and which lists it is in: ``cluster``, ``local``, both or none."""

    ip: str
    port: int
    local: bool
    ready: bool
    serving: bool
    terminating: bool
    zones: tuple[str, ...]
    nodes: tuple[str, ...]
    lists: tuple[str, ...]

    def endpoint(self) -> Endpoint:
        return Endpoint(
            self.ip, self.port, self.local, self.ready, self.serving, self.terminating, self.zones, self.nodes
        )


class PublishedPort(_Published, frozen=True):
    """A service port in one family, as the daemon wants it served."""

    family: Family
    namespace: str
    name: str
    port: str
    protocol: str
    frontends: tuple[Frontend, ...]
    endpoints: tuple[PublishedEndpoint, ...]
    has_endpoints: bool
    affinity_seconds: int | None
    internal_policy: Scope
    external_policy: Scope
    health_check_port: int | None

    def read(self) -> Frontends:
        """The Frontends that were published."""
        pairs = [(backend.lists, backend.endpoint()) for backend in self.endpoints]
        return Frontends(
            port=ServicePortName(self.namespace, self.name, self.port, self.protocol),
            frontends=self.frontends,
            endpoints=tuple(endpoint for _, endpoint in pairs),
            cluster=tuple(endpoint for lists, endpoint in pairs if "cluster" in lists),
            local=tuple(endpoint for lists, endpoint in pairs if "local" in lists),
            reachable=tuple(endpoint for lists, endpoint in pairs if lists),
            has_endpoints=self.has_endpoints,
            affinity=self.affinity_seconds,
            internal_scope=self.internal_policy,
            external_scope=self.external_policy,
            health_check_port=self.health_check_port,
        )


_LISTS = {
    (False, False): (),
    (True, False): ("cluster",),
    (False, True): ("local",),
    (True, True): ("cluster", "local"),
}


def publish(family: Family, frontends: Frontends) -> PublishedPort:
    """A service port as it is told."""
    port = frontends.port
    cluster, local = set(frontends.cluster), set(frontends.local)
    backends = tuple(
        PublishedEndpoint(
            one.ip,
            one.port,
            one.local,
            one.ready,
            one.serving,
            one.terminating,
            one.zones,
            one.nodes,
            _LISTS[one in cluster, one in local],
        )
        for one in frontends.endpoints
    )
    return PublishedPort(
        family,
        port.namespace,
        port.name,
        port.port,
        port.protocol,
        frontends.frontends,
        backends,
        frontends.has_endpoints,
        frontends.affinity,
        frontends.internal_scope,
        frontends.external_scope,
        frontends.health_check_port,
    )


class SyncRecord(_Published, frozen=True):
    """One sync. ``changed`` service ports were to change, of which the first are named; ``drift`` is what others did.

    ``written`` are numbers of rules or elements, by table, and ``refused`` the service ports that the kernel refused.
    ``phases`` are the seconds of the parts of the sync (`phases.Phase`), in their order.
    """

    number: int
    family: Family
    ended: str
    full: bool
    reason: str
    seconds: float
    changed: int
    service_ports: tuple[str, ...]
    written: Mapping[str, int]
    refused: Mapping[str, str]
    error: str = ""
    drift: str = ""
    repaired: tuple[str, ...] = ()
    phases: Mapping[str, float] = msgspec.field(default_factory=dict)


class DriftRecord(_Published, frozen=True):
    """What others did to our rules: who and what, as far as that was seen, and what was repaired."""

    number: int
    family: Family
    ended: str
    what: str
    repaired: tuple[str, ...]
    error: str = ""


class RejectedObject(_Published, frozen=True):
    """An object that is left out, or a Service of which a port is."""

    kind: str
    namespace: str
    name: str
    reason: str


class LostAddress(_Published, frozen=True):
    """An address that a service port asks for and an older Service has; ``address`` is None for a node port."""

    family: Family
    service_port: str
    address: str | None
    port: int
    protocol: str
    owner: str


class FamilyState(_Published, frozen=True):
    """Where one family's rules stand. ``pending_since`` is when a change was asked for that is not programmed yet."""

    family: Family
    service_ports: int = 0
    last_sync: str = ""
    last_success: str = ""
    pending_since: str = ""
    error: str = ""

    @property
    def synced(self) -> bool:
        return bool(self.last_success) and not self.error


class Origin(_Published, frozen=True):
    """Where the daemon's objects come from: a folder of manifests, or an API server."""

    manifests: str = ""
    kubeconfig: str = ""
    master: str = ""


class Status(_Published, frozen=True):
    """What the daemon is. ``configuration`` is what /configz shows."""

    node: str
    mode: str
    version: str
    process: int
    started: str
    origin: Origin
    families: tuple[FamilyState, ...]
    configuration: msgspec.Raw
    api_version: str = API_VERSION


class Listed(_Published, frozen=True):
    """The answers other than the status: each has one of these lists, or two."""

    api_version: str = API_VERSION
    syncs: tuple[SyncRecord, ...] = ()
    drift: tuple[DriftRecord, ...] = ()
    rejected: tuple[RejectedObject, ...] = ()
    conflicts: tuple[LostAddress, ...] = ()
    frontends: tuple[PublishedPort, ...] = ()
