"""EndpointSlices -> the endpoints of a service port, in one family.

A slice is reduced to what the proxier uses as soon as it arrives, and forgotten: a node sees all slices of a cluster.
Source: kube-proxy 1.36's EndpointSliceCache.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kpx.cluster.objects import EndpointSlice, NamedHint, SliceEndpoint
from kpx.net import Family, canonical_ip, family_of
from kpx.proxier.frontends import Endpoint, ServiceName

SERVICE_NAME_LABEL = "kubernetes.io/service-name"

# (port name, protocol) -> endpoints: how slices are joined to the ports of a Service.
PortEndpoints = Mapping[tuple[str, str], tuple[Endpoint, ...]]


def slice_service(slice_: EndpointSlice) -> ServiceName | None:
    """The Service that a slice belongs to, or None if its label does not say."""
    name = (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL, "")
    return ServiceName(slice_.metadata.namespace, name) if name else None


def slice_endpoints(slice_: EndpointSlice, family: Family, node_name: str) -> PortEndpoints:
    """The endpoints that a slice names for each of its ports. A port without name or number, and an endpoint whose
    first address does not parse, is left out."""
    ports = [
        ((port.name, port.protocol or "TCP"), port.port)
        for port in slice_.ports or ()
        if port.name is not None and port.port and 0 < port.port < 65536
    ]
    addressed = [(entry, _address(entry, family)) for entry in slice_.endpoints or ()]
    return {
        key: tuple(_endpoint(entry, address, number, node_name) for entry, address in addressed if address)
        for key, number in ports
    }


def merged(slices: Iterable[PortEndpoints]) -> PortEndpoints:
    """All slices of one Service as one: for each port the endpoints, ordered by identity (``ip:port`` as text).

    Of entries with one identity a non-terminating one replaces what was there, and a terminating one never does.
    """
    found: dict[tuple[str, str], dict[str, Endpoint]] = {}
    for ports in slices:
        for key, endpoints in ports.items():
            known = found.setdefault(key, {})
            for endpoint in endpoints:
                identity = str(endpoint)
                if not endpoint.terminating or identity not in known:
                    known[identity] = endpoint
    return {key: tuple(known[identity] for identity in sorted(known)) for key, known in found.items()}


def _address(entry: SliceEndpoint, family: Family) -> str | None:
    """The address that counts: the first one."""
    address = canonical_ip(entry.addresses[0]) if entry.addresses else None
    return address if address is not None and family_of(address) is family else None


def _endpoint(entry: SliceEndpoint, address: str, port: int, node_name: str) -> Endpoint:
    conditions, hints = entry.conditions, entry.hints
    return Endpoint(
        ip=address,
        port=port,
        local=bool(node_name) and entry.node_name == node_name,
        ready=conditions is None or conditions.ready is not False,
        serving=conditions is None or conditions.serving is not False,
        terminating=conditions is not None and conditions.terminating is True,
        zones=_names(hints.for_zones) if hints else (),
        nodes=_names(hints.for_nodes) if hints else (),
    )


def _names(hints: list[NamedHint] | None) -> tuple[str, ...]:
    return tuple(hint.name for hint in hints or ())
