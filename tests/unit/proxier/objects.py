"""Short ways to write Kubernetes objects in tests."""

from __future__ import annotations

from typing import Any

import msgspec

from kpx.cluster.objects import EndpointSlice, Service


def service(
    name: str = "shop/web", *, created: str = "2026-01-01T00:00:00Z", status: Any = None, **spec: Any
) -> Service:
    """A Service from ``namespace/name`` and the API's spec fields."""
    namespace, name = name.split("/")
    defaults = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]}
    return msgspec.convert(
        {
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
            "spec": {**defaults, **spec},
            "status": status,
        },
        Service,
    )


def endpoint_slice(
    name: str = "shop/web-1",
    *addresses: str,
    of: str = "web",
    port: str | None = "http",
    number: int | None = 8080,
    protocol: str = "TCP",
    family: str = "IPv4",
    endpoints: Any = None,
) -> EndpointSlice:
    """An EndpointSlice from ``namespace/name`` and addresses (``10.0.0.1@node``), or the API's endpoints."""
    namespace, name = name.split("/")
    entries = endpoints or [
        {"addresses": [address], **({"nodeName": node} if node else {})}
        for address, _, node in (one.partition("@") for one in addresses)
    ]
    return msgspec.convert(
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": of}},
            "addressType": family,
            "ports": [{"name": port, "port": number, "protocol": protocol}],
            "endpoints": entries,
        },
        EndpointSlice,
    )
