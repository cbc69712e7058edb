"""What an API server does to an object before a proxy sees it, done here to objects that come from files.

It fills in defaults, and the selectors of kube-proxy's lists and watches leave some objects out.
"""

from __future__ import annotations

from msgspec.structs import replace

from kpx.cluster.objects import EndpointSlice, Kind, Metadata, Node, Object, Service, ServiceSpec, SlicePort
from kpx.net import canonical_ip, family_of

_NAMESPACE = "default"


def default_namespace(kind: Kind) -> str:
    """The namespace of an object that names none."""
    return _NAMESPACE if kind in (Kind.SERVICE, Kind.ENDPOINT_SLICE) else ""


def stored(object_: Object) -> Object:
    """The object with those of the API's defaults that a proxy looks at."""
    match object_:
        case Service():
            return replace(object_, metadata=_namespaced(object_.metadata), spec=_with_addresses(object_.spec))
        case EndpointSlice():
            return replace(object_, metadata=_namespaced(object_.metadata), ports=_with_names(object_.ports or []))
        case _:
            return object_


def selected(object_: Object, node_name: str) -> bool:
    """Whether kube-proxy on `node_name` would be sent the object."""
    labels = object_.metadata.labels or {}
    match object_:
        case Service():
            return "service.kubernetes.io/service-proxy-name" not in labels and object_.spec.cluster_ip != "None"
        case EndpointSlice():
            return "service.kubernetes.io/headless" not in labels
        case Node():
            return object_.metadata.name == node_name
        case _:
            return True


def _namespaced(metadata: Metadata) -> Metadata:
    return metadata if metadata.namespace else replace(metadata, namespace=_NAMESPACE)


def _with_addresses(spec: ServiceSpec) -> ServiceSpec:
    """`clusterIP`, `clusterIPs` and `ipFamilies` follow from each other."""
    cluster_ips = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if not cluster_ips:
        return spec
    addresses = [address for address in map(canonical_ip, cluster_ips) if address]
    return replace(
        spec,
        cluster_ip=spec.cluster_ip or cluster_ips[0],
        cluster_ips=cluster_ips,
        ip_families=spec.ip_families or [family_of(address).value for address in addresses],
    )


def _with_names(ports: list[SlicePort]) -> list[SlicePort]:
    return [replace(port, name=port.name or "", protocol=port.protocol or "TCP") for port in ports]
