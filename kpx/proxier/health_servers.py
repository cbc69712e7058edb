"""The health server of the node, and the health-check node ports of Services.

Source: kube-proxy 1.36.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from kpx.net import Family
from kpx.proxier.frontends import ServiceName
from kpx.proxier.health import NodeEligibility, ProxyHealth, health_body, service_body
from kpx.proxier.http_messages import JSON, NOT_FOUND, Request, Response
from kpx.proxier.http_server import HTTPServer, Listener, ListenError

logger = logging.getLogger(__name__)


class HealthChecks:
    """The handler of /healthz and /livez; `counted` is told the path and the status of each answer."""

    def __init__(self, health: ProxyHealth, node: NodeEligibility, counted: Callable[[str, int], None]) -> None:
        self._health = health
        self._node = node
        self._counted = counted

    def __call__(self, request: Request) -> Response:
        if request.path not in ("/healthz", "/livez"):
            return NOT_FOUND
        health = self._health.status()
        eligible = bool(self._node) if request.path == "/healthz" else None
        ok = health.healthy and eligible is not False
        status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._counted(request.path, status)
        return Response(health_body(health, ok=ok, eligible=eligible), status, JSON)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A Service whose port is open: on every address, or on none if there is none to listen on."""

    port: int
    listeners: tuple[Listener, ...]


class ServiceHealthServers:
    """One family's health-check node ports: a load balancer asks them which nodes have endpoints of a Service."""

    def __init__(
        self,
        family: Family,
        server: HTTPServer,
        health: ProxyHealth,
        on_failure: Callable[[ServiceName, int, ListenError], None],
        addresses: Sequence[str] | None = None,
    ) -> None:
        """`addresses` are those to listen on, None for all of the family.

        `on_failure` is told, at each sync, of a Service whose port cannot be bound (kube-proxy writes the event
        FailedToStartServiceHealthcheck).
        """
        self._family = family
        self._server = server
        self._health = health
        self._on_failure = on_failure
        self._addresses = ["0.0.0.0" if family is Family.IPV4 else "::"] if addresses is None else addresses
        self._open: dict[ServiceName, _Checked] = {}
        self._local_endpoints: Mapping[ServiceName, int] = {}

    def sync(self, ports: Mapping[ServiceName, int], local_endpoints: Mapping[ServiceName, int]) -> None:
        """Serve exactly these ports, and answer with these numbers of local ready endpoints (0 where absent).

        A port that could not be bound is tried again at the next call.
        """
        for service, checked in list(self._open.items()):
            if ports.get(service) != checked.port:
                self._close(service)
        self._local_endpoints = dict(local_endpoints)
        for service, port in ports.items():
            if service not in self._open:
                self._start(service, port)

    def close(self) -> None:
        self.sync({}, {})

    def _start(self, service: ServiceName, port: int) -> None:
        listeners: list[Listener] = []
        try:
            for address in self._addresses:
                listeners.append(
                    self._server.listen(address, port, lambda _: self._answer(service), family=self._family)
                )
        except ListenError as error:
            for listener in listeners:
                listener.close()
            logger.error("health check of %s: %s", service, error)
            self._on_failure(service, port, error)
        else:
            self._open[service] = _Checked(port, tuple(listeners))

    def _close(self, service: ServiceName) -> None:
        for listener in self._open.pop(service).listeners:
            listener.close()

    def _answer(self, service: ServiceName) -> Response:
        endpoints = self._local_endpoints.get(service, 0)
        healthy = self._health.status().healthy
        return Response(
            service_body(service.namespace, service.name, endpoints, healthy=healthy),
            HTTPStatus.OK if endpoints and healthy else HTTPStatus.SERVICE_UNAVAILABLE,
            JSON,
            {"X-Load-Balancing-Endpoint-Weight": str(endpoints)},
        )
