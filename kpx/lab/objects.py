"""What the lab's daemon is given: Kubernetes objects as manifests, and its configuration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kpx.lab.topology import NODE, Role, Topology
from kpx.net import Family

_MANIFESTS = Path(__file__).parent / "manifests"
_SCALE_ENDPOINTS = 5
_SCALE_LIMIT = 65536

# Limits and time-outs of conntrack are the host's own: the lab leaves them alone.
_CONFIG: dict[str, Any] = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "hostnameOverride": NODE,
    "clusterCIDR": "10.244.0.0/16,fd00:244::/48",
    "detectLocalMode": "ClusterCIDR",
    "bindAddress": "0.0.0.0",
    "healthzBindAddress": "0.0.0.0:10256",
    "metricsBindAddress": "127.0.0.1:10249",
    "conntrack": {
        "maxPerCore": 0,
        "min": 0,
        "tcpEstablishedTimeout": "0s",
        "tcpCloseWaitTimeout": "0s",
        "udpTimeout": "0s",
        "udpStreamTimeout": "0s",
    },
    "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    "ipvs": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
}


def configuration(mode: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A KubeProxyConfiguration for node-a: the lab's own with `overrides` merged in, section by section."""
    return merged({**_CONFIG, "mode": mode}, overrides)


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `overrides`; mappings within are merged, everything else is replaced."""
    result = dict(base)
    for key, value in overrides.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def write_configuration(path: Path, configured: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(configured), sort_keys=False), encoding="utf-8")


def write_manifests(folder: Path, topology: Topology, services: int) -> None:
    """Put the lab's manifests into `folder`, and `services` more services in scale.json if that is not 0."""
    shutil.copytree(_MANIFESTS, folder, dirs_exist_ok=True)
    if services:
        items = [item for number in range(services) for item in _scale_objects(topology, number)]
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        (folder / "scale.json").write_text(json.dumps(listed, separators=(",", ":")), encoding="utf-8")


def _scale_objects(topology: Topology, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Service and EndpointSlice `number` of many: an address in 10.97.0.0/16, five endpoints among the lab's pods."""
    if number >= _SCALE_LIMIT:
        raise ValueError(f"at most {_SCALE_LIMIT} services fit into 10.97.0.0/16")
    name = f"scale-{number:05d}"
    pods = [place for place in topology.places if place.role is Role.POD]
    chosen = [pods[(number + step) % len(pods)] for step in range(_SCALE_ENDPOINTS)]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "scale"},
        "spec": {
            "clusterIP": f"10.97.{number >> 8}.{number & 255}",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    }
    endpoints = [
        {"addresses": [pod.address(Family.IPV4)], "nodeName": pod.uplink, "conditions": {"ready": True}}
        for pod in chosen
    ]
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "scale", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }
    return service, endpoint_slice
