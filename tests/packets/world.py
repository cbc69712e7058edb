"""The Kubernetes objects of a run and what steps do to them. Pure."""

from __future__ import annotations

from typing import Any

from kpx.lab.topology import NODE, Role, Topology
from kpx.net import Family
from tests.packets.addresses import in_ipv6
from tests.packets.scenario import Object

NAMESPACE = "shop"
_API_VERSIONS = {
    "Namespace": "v1",
    "Node": "v1",
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "ServiceCIDR": "networking.k8s.io/v1",
}
_CLUSTER_SCOPED = {"Namespace", "Node", "ServiceCIDR"}

# Every world has these, unless the scenario brings its own.
_NODE: Object = {
    "kind": "Node",
    "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "topology.kubernetes.io/zone": "z1"}},
    "spec": {"podCIDR": "10.244.21.0/24", "podCIDRs": ["10.244.21.0/24", "fd00:244:0:21::/64"]},
    "status": {
        "addresses": [
            {"type": "InternalIP", "address": "10.199.0.21"},
            {"type": "InternalIP", "address": "fd00:199::21"},
        ]
    },
}
_SERVICE_CIDR: Object = {
    "kind": "ServiceCIDR",
    "metadata": {"name": "kubernetes"},
    "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
}


class World:
    """The objects as they are now, in one family."""

    def __init__(self, family: Family, topology: Topology, objects: list[Object]) -> None:
        self._family = family
        self._topology = topology
        self._objects: dict[str, Object] = {}
        self.apply([_NODE, _SERVICE_CIDR, *objects])

    @property
    def objects(self) -> list[Object]:
        """All objects, complete: fit for an API server or a manifest."""
        return list(self._objects.values())

    def apply(self, objects: list[Object]) -> None:
        """Add objects, or put them in the place of those of the same name."""
        for written in objects:
            complete = self._complete(written)
            self._objects[_reference(complete)] = complete

    def patch(self, patches: dict[str, Object]) -> None:
        """Merge changes into objects, by reference, as a JSON merge patch (RFC 7386)."""
        for reference, change in patches.items():
            self.apply([_merge_patch(self._objects[_full(reference)], change)])

    def delete(self, references: tuple[str, ...]) -> None:
        for reference in references:
            del self._objects[_full(reference)]

    def _complete(self, written: Object) -> Object:
        """An object with the defaults and short forms of scenarios written out, in the family of the run."""
        kind = written["kind"]
        complete = {"apiVersion": _API_VERSIONS[kind], **written}
        metadata = dict(complete.get("metadata", {}))
        if kind == "EndpointSlice" and "of" in complete:
            service = complete.pop("of")
            metadata.setdefault("name", f"{service}-1")
            metadata.setdefault("labels", {"kubernetes.io/service-name": service})
        if kind not in _CLUSTER_SCOPED:
            metadata.setdefault("namespace", NAMESPACE)
        complete["metadata"] = metadata
        if kind == "EndpointSlice":
            complete.setdefault("addressType", "IPv4")
            complete["endpoints"] = [self._endpoint(entry) for entry in complete.get("endpoints", [])]
        return self._in_family(complete)

    def _endpoint(self, entry: str | Object) -> Object:
        """An endpoint; ``a10``, or a mapping with ``pod: a10``, stands for the address and the node of that pod."""
        if isinstance(entry, str):
            entry = {"pod": entry}
        if "pod" not in entry:
            return entry
        place = self._topology.place(entry["pod"])
        node = {Role.POD: place.uplink, Role.NODE: place.name}.get(place.role)
        known: Object = {"addresses": [place.address(Family.IPV4)], **({"nodeName": node} if node else {})}
        return known | {key: value for key, value in entry.items() if key != "pod"}

    def _in_family(self, complete: Object) -> Object:
        dual_stack = len(complete.get("spec", {}).get("ipFamilies", ())) > 1
        if self._family is Family.IPV4 or complete["kind"] in _CLUSTER_SCOPED or dual_stack:
            return complete
        translated: Object = in_ipv6(complete)
        if complete["kind"] == "EndpointSlice":
            translated["addressType"] = "IPv6"
        return translated


def _reference(item: Object) -> str:
    metadata = item["metadata"]
    return _full(f"{item['kind']}/{metadata['name']}", metadata.get("namespace", ""))


def _full(reference: str, namespace: str | None = None) -> str:
    """``Kind/name`` or ``Kind/namespace/name`` -> the key of an object."""
    kind, *names = reference.split("/")
    if len(names) == 2:
        namespace = names[0]
    elif namespace is None:
        namespace = "" if kind in _CLUSTER_SCOPED else NAMESPACE
    return f"{kind}/{namespace}/{names[-1]}"


def _merge_patch(target: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value)
    return result
