"""What is taken from the Node object and the configuration."""

from __future__ import annotations

import msgspec
import pytest

from kpx.cluster.objects import Node
from kpx.config.types import DetectLocal, KubeProxyConfiguration
from kpx.net import Family
from kpx.proxier.node import LocalTraffic, is_fatal, local_traffic, node_addresses, warnings, wrong_family

V4, V6 = Family.IPV4, Family.IPV6


def node(*addresses: str, pod_cidrs: tuple[str, ...] = ()) -> Node:
    """A Node from ``type=address`` texts."""
    entries = [dict(zip(("type", "address"), one.split("=", 1), strict=True)) for one in addresses]
    fields = {"kind": "Node", "spec": {"podCIDRs": list(pod_cidrs)}, "status": {"addresses": entries}}
    return msgspec.convert(fields, Node)


@pytest.mark.parametrize(
    ("addresses", "bind", "v4", "v6", "primary"),
    [
        ((), "0.0.0.0", "127.0.0.1", "::1", V4),
        (("InternalIP=10.0.0.1",), "0.0.0.0", "10.0.0.1", "::1", V4),
        (("Hostname=n", "ExternalIP=192.0.2.1", "InternalIP=10.0.0.1"), "0.0.0.0", "10.0.0.1", "::1", V4),
        (("InternalIP=fd00::1", "InternalIP=10.0.0.1"), "0.0.0.0", "10.0.0.1", "fd00::1", V6),
        (("ExternalIP=192.0.2.1", "InternalIP=fd00::1"), "::", "192.0.2.1", "fd00::1", V6),
        (("InternalIP=10.0.0.1", "InternalIP=10.0.0.2"), "10.0.0.9", "10.0.0.9", "::1", V4),
        (("InternalIP=10.0.0.1",), "fd00::9", "10.0.0.1", "fd00::9", V6),
    ],
)
def test_addresses_and_primary_family(addresses: tuple[str, ...], bind: str, v4: str, v6: str, primary: Family) -> None:
    found = node_addresses(node(*addresses) if addresses else None, bind)

    assert (found.ips[V4], found.ips[V6], found.primary) == (v4, v6, primary)
    assert found.known is bool(addresses)


@pytest.mark.parametrize(
    ("config", "v4", "v6"),
    [
        ({"cluster_cidr": "10.1.2.3/16,fd00::/48"}, LocalTraffic("10.1.0.0/16"), LocalTraffic("fd00::/48")),
        ({"cluster_cidr": "10.1.0.0/16"}, LocalTraffic("10.1.0.0/16"), None),
        ({"detect_local_mode": "NodeCIDR"}, LocalTraffic("10.244.1.0/24"), None),
        (
            {"detect_local_mode": "BridgeInterface", "detect_local": DetectLocal(bridge_interface="br0")},
            LocalTraffic(interface="br0"),
            LocalTraffic(interface="br0"),
        ),
        (
            {"detect_local_mode": "InterfaceNamePrefix", "detect_local": DetectLocal(interface_name_prefix="cali")},
            LocalTraffic(interface="cali+"),
            LocalTraffic(interface="cali+"),
        ),
        ({}, None, None),
    ],
)
def test_detectors(config: dict[str, object], v4: LocalTraffic | None, v6: LocalTraffic | None) -> None:
    full = KubeProxyConfiguration(**{"detect_local_mode": "ClusterCIDR", **config})  # type: ignore[arg-type]
    here = node(pod_cidrs=("10.244.1.0/24",))

    assert (local_traffic(full, here, V4), local_traffic(full, here, V6)) == (v4, v6)


def test_networks_of_the_wrong_family_are_fatal_where_the_detector_needs_them() -> None:
    config = KubeProxyConfiguration(cluster_cidr="fd00::/48", detect_local_mode="ClusterCIDR")

    fault = wrong_family(config, None, V4, dual_stack=False)

    assert fault == "cluster is IPv4-only but clusterCIDRs contains only IPv6 addresses"
    assert is_fatal(config, fault, dual_stack=False)
    assert not is_fatal(config, fault, dual_stack=True)
    assert not is_fatal(KubeProxyConfiguration(detect_local_mode="NodeCIDR"), fault, dual_stack=False)


def test_unset_node_port_addresses_are_warned_about() -> None:
    assert "nodePortAddresses is unset" in warnings(KubeProxyConfiguration(), None, V4, dual_stack=True)[0]
    assert warnings(KubeProxyConfiguration(node_port_addresses=("primary",)), None, V4, dual_stack=True) == []
