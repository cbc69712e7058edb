"""The cluster's objects, read once: from an API server or from a folder of manifests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from kpx.cluster.defaults import selected
from kpx.cluster.events import ClusterError
from kpx.cluster.objects import EndpointSlice, Kind, Node, Object, Service
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import Frontends, ServiceName
from kpx.proxier.node import zone_of
from kpx.proxier.plan import Viewpoint
from kpx.proxier.services import InvalidObject
from kpx.proxier.slices import SERVICE_NAME_LABEL
from kpx.tools.errors import ToolError

if TYPE_CHECKING:
    from kpx.cluster.kubernetes import Connection

# Where kubeconfigs are on nodes, after what KUBECONFIG names and the user's own: of kubeadm, k3s, and kube-proxy.
_KUBECONFIGS = (
    "~/.kube/config",
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/k3s/k3s.yaml",
    "/var/lib/kube-proxy/kubeconfig.conf",
    "/var/lib/kube-proxy/kubeconfig",
)


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach an API server; without a kubeconfig and an address as a pod does."""

    kubeconfig: str = ""
    master: str = ""
    seconds: float = 10.0

    def objects(self, name: str = "", namespace: str = "") -> list[Object]:
        """All Services and EndpointSlices, or those of a name, and all Nodes. Raises `ToolError`."""
        here = {"metadata.namespace": namespace} if namespace else {}
        services = _selectors({"metadata.name": name, **here} if name else here)
        slices = _selectors(here, {SERVICE_NAME_LABEL: name} if name else {})
        return self._read(
            ("/api/v1/services", Kind.SERVICE, services),
            ("/apis/discovery.k8s.io/v1/endpointslices", Kind.ENDPOINT_SLICE, slices),
            ("/api/v1/nodes", Kind.NODE, {}),
        )

    def service(self, name: ServiceName) -> Service | None:
        """One Service, whatever its type. Raises `ToolError`."""
        fields = f"metadata.namespace={name.namespace},metadata.name={name.name}"
        found = self._read(("/api/v1/services", Kind.SERVICE, {"fieldSelector": fields}))
        return next((one for one in found if isinstance(one, Service)), None)

    def node(self, name: str) -> Node | None:
        """One Node. Raises `ToolError`."""
        found = self._read(("/api/v1/nodes", Kind.NODE, _selectors({"metadata.name": name})))
        return find_node(found, name)

    def connection(self) -> Connection:
        """A connection to it. Raises `ClusterError`."""
        from kpx.cluster.kubernetes import Connection

        return Connection.from_config(self.kubeconfig, self.master, qps=-1)

    def _read(self, *wanted: tuple[str, Kind, dict[str, str]]) -> list[Object]:
        from kpx.cluster.kubernetes import Resource, read_all

        try:
            connection = self.connection()
            return [
                one
                for path, kind, selectors in wanted
                for one in read_all(connection, Resource(kind, path, selectors), self.seconds)
            ]
        except ClusterError as error:
            raise ToolError(f"the API server cannot be asked: {error}") from error


def _selectors(fields: Mapping[str, str], labels: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """What an API server is asked to select by."""
    asked = {"fieldSelector": fields, "labelSelector": labels}
    return {key: ",".join(f"{name}={value}" for name, value in some.items()) for key, some in asked.items() if some}


def default_server(seconds: float) -> Server | None:
    """The API server that this node, user or pod belongs to; None where nothing names one."""
    named = [path for path in os.environ.get("KUBECONFIG", "").split(":") if path]
    for path in (Path(one).expanduser() for one in (*named, *_KUBECONFIGS)):
        with suppress(PermissionError):  # of a folder that this user may not look into
            if path.is_file():
                return Server(str(path), seconds=seconds)
    return Server(seconds=seconds) if os.environ.get("KUBERNETES_SERVICE_HOST") else None


def folder_objects(folder: Path) -> list[Object]:
    """All objects of a folder of manifests. Raises `ToolError`."""
    from kpx.cluster import manifests  # with what reads YAML, which nothing else needs here

    try:
        return manifests.objects(folder)
    except ClusterError as error:
        raise ToolError(f"the manifests cannot be read: {error}") from error


def find_service(objects: Iterable[Object], name: ServiceName) -> Service | None:
    """A Service among objects, whatever its type."""
    return next(
        (
            one
            for one in objects
            if isinstance(one, Service) and (one.metadata.namespace, one.metadata.name) == tuple(name)
        ),
        None,
    )


def find_node(objects: Iterable[Object], name: str) -> Node | None:
    """A Node among objects."""
    return next((one for one in objects if isinstance(one, Node) and one.metadata.name == name), None)


def wanted(objects: Iterable[Object], view: Viewpoint) -> list[tuple[Family, Frontends]]:
    """What a proxy on the node of `view` makes of objects; those that it would leave out are left out."""
    chosen = [one for one in objects if selected(one, view.node)]
    here = next((one for one in chosen if isinstance(one, Node)), None)
    states = [DesiredState(family, replace(view, zone=zone_of(here))) for family in Family]
    for state in states:
        for one in chosen:
            _take(state, one)
        state.take()
    return [(state.tracker.family, one) for state in states for one in state.frontends.values()]


def _take(state: DesiredState, one: Object) -> None:
    if isinstance(one, EndpointSlice):
        state.tracker.apply_slice(one)
    elif isinstance(one, Service):
        try:
            state.tracker.apply_service(one)
        except InvalidObject:
            return
