"""The Kubernetes objects that a service proxy reads, with the fields that it reads and no others.

Decoded straight from the bytes of the API server or of a manifest by msgspec: unknown fields are skipped, not stored.
A list that the API leaves out, or sends as ``null``, is None: read it as ``spec.ports or ()``. Field names are
Python's, wire names the API's.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class _Object(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """Base of all structs here: immutable, without garbage-collector tracking (they never form a cycle)."""


class Kind(Enum):
    """The kinds that a source delivers; the value is the API's ``kind``."""

    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    NODE = "Node"
    SERVICE_CIDR = "ServiceCIDR"


class Metadata(_Object, frozen=True):
    """``metadata``. Times are the API's RFC 3339 text."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class ServicePort(_Object, frozen=True):
    """An entry of ``spec.ports``."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0


class ClientIPConfig(_Object, frozen=True):
    timeout_seconds: int | None = None


class SessionAffinityConfig(_Object, frozen=True):
    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(_Object, frozen=True):
    """``spec`` of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] | None = msgspec.field(default=None, name="clusterIPs")
    ip_families: list[str] | None = None
    ports: list[ServicePort] | None = None
    external_ips: list[str] | None = msgspec.field(default=None, name="externalIPs")
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    external_traffic_policy: str | None = None
    internal_traffic_policy: str | None = None
    load_balancer_source_ranges: list[str] | None = None
    health_check_node_port: int = 0
    external_name: str = ""


class LoadBalancerIngress(_Object, frozen=True):
    ip: str = ""
    ip_mode: str | None = None


class LoadBalancerStatus(_Object, frozen=True):
    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(_Object, frozen=True):
    load_balancer: LoadBalancerStatus | None = None


class Service(_Object, frozen=True, tag_field="kind", tag="Service"):
    """``v1`` Service."""

    metadata: Metadata = Metadata()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus | None = None


class SlicePort(_Object, frozen=True):
    """An entry of an EndpointSlice's ``ports``; an unset name or number means that the port cannot be used."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = "TCP"


class Conditions(_Object, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class NamedHint(_Object, frozen=True):
    name: str = ""


class Hints(_Object, frozen=True):
    for_zones: list[NamedHint] | None = None
    for_nodes: list[NamedHint] | None = None


class SliceEndpoint(_Object, frozen=True):
    """An entry of an EndpointSlice's ``endpoints``."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    node_name: str | None = None
    hints: Hints | None = None


class EndpointSlice(_Object, frozen=True, tag_field="kind", tag="EndpointSlice"):
    """``discovery.k8s.io/v1`` EndpointSlice."""

    metadata: Metadata = Metadata()
    address_type: str = ""
    ports: list[SlicePort] | None = None
    endpoints: list[SliceEndpoint] | None = None


class NodeAddress(_Object, frozen=True):
    type: str = ""
    address: str = ""


class Taint(_Object, frozen=True):
    key: str = ""


class NodeSpec(_Object, frozen=True):
    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")
    taints: list[Taint] | None = None


class NodeStatus(_Object, frozen=True):
    addresses: list[NodeAddress] | None = None


class Node(_Object, frozen=True, tag_field="kind", tag="Node"):
    """``v1`` Node."""

    metadata: Metadata = Metadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ServiceCIDRSpec(_Object, frozen=True):
    cidrs: list[str] | None = None


class ServiceCIDR(_Object, frozen=True, tag_field="kind", tag="ServiceCIDR"):
    """``networking.k8s.io/v1`` ServiceCIDR."""

    metadata: Metadata = Metadata()
    spec: ServiceCIDRSpec = ServiceCIDRSpec()


Object = Service | EndpointSlice | Node | ServiceCIDR
