"""The objects of a synthetic cluster, in the form and size that an API server has them. Pure.

Service `n` has a ClusterIP and one EndpointSlice. Every address in `PODS` answers, whether a slice names it or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

NODE = "node-a"
NODE_IP = "192.0.2.1"
CLUSTER_NETWORK = IPv4Network("10.128.0.0/9")
PODS = IPv4Network("10.128.0.0/10")
SERVICES = IPv4Network("10.96.0.0/12")
ENDPOINTS = 5
PORT, TARGET_PORT = 80, 8080
MOST_SERVICES = 200_000

_NAMESPACE = "bench"
_FIRST_REPLACEMENT = MOST_SERVICES * ENDPOINTS


def service_name(number: int) -> str:
    return f"service-{number:06d}"


def cluster_ip(number: int) -> str:
    return str(SERVICES[number + 10])


def endpoints(number: int) -> list[str]:
    """The addresses that answer for a Service at first."""
    return _pods(number * ENDPOINTS)


def replacements(change: int) -> list[str]:
    """Addresses that no Service has had before the change of this number."""
    return _pods(_FIRST_REPLACEMENT + change * ENDPOINTS)


def _pods(first: int) -> list[str]:
    return [str(PODS[256 + first + step]) for step in range(ENDPOINTS)]


def cluster(services: int) -> Iterator[dict[str, Any]]:
    """All objects of a cluster with this many Services."""
    yield node()
    for number in range(services):
        yield service(number)
        yield endpoint_slice(number, endpoints(number))


def node() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "zone-a"}},
        "spec": {"podCIDR": str(CLUSTER_NETWORK), "podCIDRs": [str(CLUSTER_NETWORK)]},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_IP}]},
    }


def service(number: int) -> dict[str, Any]:
    name, address = service_name(number), cluster_ip(number)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": _NAMESPACE,
            "labels": {"app": name},
            "managedFields": _managed_fields("kubectl", "v1", ["f:metadata", "f:spec"]),
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": {"app": name},
            "ports": [{"name": "http", "protocol": "TCP", "port": PORT, "targetPort": TARGET_PORT}],
        },
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(number: int, addresses: list[str]) -> dict[str, Any]:
    """The EndpointSlice of a Service, with these addresses."""
    name = service_name(number)
    version = "discovery.k8s.io/v1"
    return {
        "apiVersion": version,
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-abcde",
            "generateName": f"{name}-",
            "namespace": _NAMESPACE,
            "labels": {
                "app": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name,
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": name, "controller": True, "blockOwnerDeletion": True}
            ],
            "managedFields": _managed_fields("kube-controller-manager", version, ["f:addressType", "f:endpoints"]),
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": TARGET_PORT, "protocol": "TCP"}],
        "endpoints": [_endpoint(name, step, address) for step, address in enumerate(addresses)],
    }


def _endpoint(service: str, step: int, address: str) -> dict[str, Any]:
    pod = f"{service}-{int(IPv4Address(address)) & 0xFFFFFF:06x}"
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": f"node-{step}",
        "zone": "zone-a",
        "targetRef": {
            "kind": "Pod",
            "namespace": _NAMESPACE,
            "name": pod,
            "uid": f"00000000-0000-4000-8000-{pod[-6:]}",
        },
    }


def _managed_fields(manager: str, version: str, fields: list[str]) -> list[dict[str, Any]]:
    """What the API server notes of who wrote which fields: a good part of an object's bytes."""
    owned: dict[str, Any] = {field: {"f:labels": {".": {}, "f:app": {}}, "f:ports": {}} for field in fields}
    return [
        {
            "manager": manager,
            "operation": "Update",
            "apiVersion": version,
            "time": "2025-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": owned,
        }
    ]
