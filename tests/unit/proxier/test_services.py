"""Which service ports a Service has: kube-proxy's rules."""

from __future__ import annotations

from typing import Any

import pytest

from kpx.net import Family
from kpx.proxier.services import InvalidObject, service_ports
from tests.unit.proxier.objects import service

V4, V6 = Family.IPV4, Family.IPV6


@pytest.mark.parametrize(
    ("spec", "v4", "v6"),
    [
        ({"clusterIP": ""}, None, None),
        ({"clusterIP": "None"}, None, None),
        ({"type": "ExternalName"}, None, None),
        ({}, "10.96.0.1", None),
        ({"clusterIP": "fd00::1"}, None, "fd00::1"),
        ({"clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4"]}, "10.96.0.1", None),
        ({"clusterIPs": ["10.96.0.1", "FD00::01"], "ipFamilies": ["IPv4", "IPv6"]}, "10.96.0.1", "fd00::1"),
        ({"clusterIPs": ["10.96.0.1"], "ipFamilies": ["IPv4", "IPv6"]}, "10.96.0.1", None),
        ({"clusterIP": "010.096.000.001"}, "10.96.0.1", None),
    ],
)
def test_cluster_ip_of_each_family(spec: dict[str, Any], v4: str | None, v6: str | None) -> None:
    found = [[port.cluster_ip for port in service_ports(service(**spec), family)] for family in (V4, V6)]

    assert found == [[v4] if v4 else [], [v6] if v6 else []]


def test_last_of_duplicate_ports_wins() -> None:
    ports = [{"name": "p", "port": 80}, {"name": "p", "port": 81}, {"name": "p", "port": 82, "protocol": "UDP"}]

    found = service_ports(service(ports=ports), V4)

    assert {(port.port, port.name.protocol) for port in found} == {(81, "TCP"), (82, "UDP")}


def test_addresses_are_filtered_by_family_mode_and_form() -> None:
    ingress = [{"ip": "192.0.2.1"}, {"hostname": "lb"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"ip": "fd00::2"}]
    (port,) = service_ports(
        service(
            type="LoadBalancer",
            externalIPs=["198.51.100.1", "", "bogus", "fd00::1"],
            loadBalancerSourceRanges=[" 10.1.2.3/8 ", "fd00::/64", "nonsense"],
            status={"loadBalancer": {"ingress": ingress}},
        ),
        V4,
    )

    assert port.external_ips == ("198.51.100.1",)
    assert port.load_balancer_ips == ("192.0.2.1",)
    assert port.source_ranges == ("10.0.0.0/8",)


def test_a_range_of_everybody_is_no_range() -> None:
    (port,) = service_ports(service(loadBalancerSourceRanges=["10.0.0.0/8", "0.0.0.0/0"]), V4)

    assert port.source_ranges == ()


@pytest.mark.parametrize(
    ("spec", "local"),
    [
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, True),
        ({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 1}, True),
        ({"externalTrafficPolicy": "Local"}, False),
        ({"externalTrafficPolicy": "Local", "externalIPs": ["fd00::1"]}, True),
        ({"type": "NodePort", "externalTrafficPolicy": "Cluster"}, False),
    ],
)
def test_external_policy(spec: dict[str, Any], local: bool) -> None:
    (port,) = service_ports(service(**spec), V4)

    assert port.external_local is local


def test_policy_local_without_external_address_uses_no_local_endpoints() -> None:
    (pending,) = service_ports(service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=1), V4)

    assert not pending.uses_local_endpoints
    assert pending.uses_cluster_endpoints


def test_affinity_is_of_client_ip_only() -> None:
    config = {"clientIP": {"timeoutSeconds": 600}}
    (sticky,) = service_ports(service(sessionAffinity="ClientIP", sessionAffinityConfig=config), V4)
    (loose,) = service_ports(service(sessionAffinityConfig=config), V4)

    assert (sticky.affinity, loose.affinity) == (600, None)


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "10.96.0.999"},
        {"ports": [{"port": 70000}]},
        {"ports": [{"port": 80, "protocol": 'TCP"; drop'}]},
    ],
)
def test_an_impossible_service_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidObject):
        service_ports(service(**spec), V4)
