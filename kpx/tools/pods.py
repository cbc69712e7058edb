"""A pod as an API server tells of it: what the tools ask of pods."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

import msgspec

from kpx.cluster.events import ClusterError
from kpx.tools.errors import ToolError
from kpx.tools.objects import Server


class PodIP(msgspec.Struct, frozen=True):
    """One of a pod's addresses."""

    ip: str = ""


class ContainerPort(msgspec.Struct, frozen=True, rename="camel"):
    """A port that a container is said to listen on."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, frozen=True):
    """A container of a pod."""

    ports: list[ContainerPort] = []


class PodSpec(msgspec.Struct, frozen=True):
    """What a pod is to be."""

    containers: list[Container] = []


class PodStatus(msgspec.Struct, frozen=True, rename={"pod_ips": "podIPs"}):
    """What a pod is."""

    phase: str = ""
    pod_ips: list[PodIP] = []


class Pod(msgspec.Struct, frozen=True):
    """What the tools ask of a pod."""

    spec: PodSpec
    status: PodStatus

    @property
    def addresses(self) -> list[str]:
        return [one.ip for one in self.status.pod_ips if one.ip]

    @property
    def ports(self) -> list[ContainerPort]:
        return [port for container in self.spec.containers for port in container.ports]


def read(server: Server, namespace: str, name: str) -> Pod | None:
    """A pod, or None if there is none. Raises `ToolError`."""
    from kpx.cluster.kubernetes import Refused

    try:
        answer = server.connection().get(
            f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}", silence=server.seconds
        )
        return msgspec.json.decode(answer, type=Pod)
    except Refused as error:
        if error.status.code == HTTPStatus.NOT_FOUND:
            return None
        raise ToolError(f"the pod cannot be asked for: {error}") from error
    except (ClusterError, msgspec.MsgspecError) as error:
        raise ToolError(f"the pod cannot be asked for: {error}") from error
