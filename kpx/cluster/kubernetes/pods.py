"""The pods that a program runs in, and the nodes that there are."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kpx.cluster.events import ClusterError
from kpx.cluster.kubernetes.connection import Connection


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: where it was scheduled, and whether it runs; ``phase`` is the API's word for how it is."""

    name: str
    node: str
    phase: str

    @property
    def running(self) -> bool:
        return self.phase == "Running"


class _Metadata(msgspec.Struct):
    name: str = ""
    deletion_timestamp: str | None = msgspec.field(default=None, name="deletionTimestamp")


class _Spec(msgspec.Struct):
    node_name: str = msgspec.field(default="", name="nodeName")


class _Status(msgspec.Struct):
    phase: str = ""


class _Item(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _List(msgspec.Struct):
    items: list[_Item] = []


def pods(connection: Connection, namespace: str, selector: str, seconds: float) -> list[Pod]:
    """The pods of a namespace that labels select, but for those that end. Raises `ClusterError`."""
    found = _items(connection, f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}, seconds)
    return [
        Pod(one.metadata.name, one.spec.node_name, one.status.phase)
        for one in found
        if one.metadata.deletion_timestamp is None
    ]


def node_names(connection: Connection, seconds: float) -> list[str]:
    """The names of all nodes. Raises `ClusterError`."""
    return [one.metadata.name for one in _items(connection, "/api/v1/nodes", {}, seconds)]


def _items(connection: Connection, path: str, query: dict[str, str], seconds: float) -> list[_Item]:
    try:
        return msgspec.json.decode(connection.get(path, query, seconds), type=_List).items
    except msgspec.MsgspecError as error:
        raise ClusterError(f"the answer of {connection.url} to {path} cannot be read: {error}") from error
