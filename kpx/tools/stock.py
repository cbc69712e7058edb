"""What a kube-proxy on this node is configured to do: its page /configz, which it serves on loopback."""

from __future__ import annotations

import http.client
from collections.abc import Callable

import msgspec

from kpx.cluster.objects import Node
from kpx.net import Family
from kpx.proxier.node import LocalTraffic, by_network, pod_cidrs

PORT = 10249
_SECONDS = 1.0


class _Marking(msgspec.Struct, frozen=True, rename="camel"):
    masquerade_all: bool = False
    masquerade_bit: int = 14
    localhost_node_ports: bool = True
    min_sync_period: str = ""


class _Scheduling(msgspec.Struct, frozen=True, rename="camel"):
    scheduler: str = ""
    min_sync_period: str = ""


class _DetectLocal(msgspec.Struct, frozen=True, rename="camel"):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class _Client(msgspec.Struct, frozen=True):
    kubeconfig: str = ""


class Configuration(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of a KubeProxyConfiguration that the tools use."""

    mode: str = "iptables"
    hostname_override: str = ""
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    detect_local_mode: str = ""
    detect_local: _DetectLocal = _DetectLocal()
    node_port_addresses: tuple[str, ...] | None = None
    healthz_bind_address: str = ""
    metrics_bind_address: str = ""
    client_connection: _Client = _Client()
    iptables: _Marking = _Marking()
    nftables: _Marking = _Marking()
    ipvs: _Scheduling = _Scheduling()

    @property
    def marking(self) -> _Marking:
        """The section of the mode that says what is marked and how; mode ipvs has none of its own."""
        return self.nftables if self.mode == "nftables" else self.iptables

    @property
    def masquerade_all(self) -> bool:
        return self.marking.masquerade_all

    @property
    def pods_known(self) -> bool:
        """Whether traffic of pods is told from other traffic."""
        return self.detect_local_mode not in ("", "ClusterCIDR") or bool(self.cluster_cidr)

    def pods(self, family: Family, here: Callable[[], Node | None]) -> LocalTraffic | None:
        """How packets of pods are told from others; `here` finds the Node object, which may have to say it."""
        match self.detect_local_mode:
            case "BridgeInterface":
                return LocalTraffic(interface=self.detect_local.bridge_interface)
            case "InterfaceNamePrefix":
                return LocalTraffic(interface=f"{self.detect_local.interface_name_prefix}+")
            case "ClusterCIDR" | "":
                return by_network(self.cluster_cidr.split(","), family)
            case "NodeCIDR":
                return by_network(pod_cidrs(here()), family)
        return None


def reached(bound: str, default: int) -> tuple[str, int]:
    """Where on this node a server answers that is bound to ``address:port``."""
    address, _, port = bound.rpartition(":")
    address = address.strip("[]")
    return (
        address if address not in ("", "0.0.0.0", "::") else "127.0.0.1",
        int(port) if port.isdigit() and int(port) else default,
    )


def configuration(port: int = PORT) -> Configuration | None:
    """The configuration of the proxy that serves its metrics on this node; None where none can be had."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/configz")
        answer = connection.getresponse()
        return parse(answer.read()) if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def parse(page: bytes) -> Configuration | None:
    """The configuration in a page /configz; None if it is something else."""
    try:
        return msgspec.json.decode(page, type=dict[str, Configuration]).get("kubeproxy.config.k8s.io")
    except msgspec.MsgspecError:
        return None
