"""What one service port needs in the table of nftables mode."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.kernel.nft.sets import Set, unpack
from kpx.kernel.nft.wire import NfFamily
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import Endpoint, Frontends, ServicePortName
from kpx.proxier.nftables import names
from kpx.proxier.nftables.containers import containers
from kpx.proxier.nftables.layout import Layout, Renderer
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service

SETTINGS = Settings(Family.IPV4, LocalTraffic("10.244.0.0/16"), "10.199.0.21")
SETS = containers(NfFamily.IP)


def planned(*hosts: str, status: Any = None, **spec: Any) -> Frontends:
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1", masquerade_all=spec.pop("masquerade_all", False)))
    desired.tracker.apply_service(service(status=status, **spec))
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", *hosts))
    desired.take()
    (frontends,) = desired.frontends.values()
    return frontends


def laid(*hosts: str, settings: Settings = SETTINGS, status: Any = None, **spec: Any) -> Layout:
    return Renderer(settings, SETS).layout(planned(*hosts, status=status, **spec))


def told(layout: Layout, held: Set) -> dict[str, str]:
    """The elements of one set, as nft prints key and data."""
    return {
        " . ".join(unpack(held.key, key)): str(element.data)
        for (name, key), element in layout.own.items()
        if name == held.name
    }


NODE_PORT: dict[str, Any] = {"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
LOCAL: dict[str, Any] = {**NODE_PORT, "externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]}
HERE, THERE = "10.244.0.1@n1", "10.244.0.2@n2"
VIP, EXTERNAL, PORT = "10.96.0.1 . tcp . 80", "192.0.2.1 . tcp . 80", "tcp . 30080"


@pytest.mark.parametrize(
    ("hosts", "spec", "leads", "refused"),
    [
        ([], {}, {}, {VIP: "goto reject-chain"}),
        ([HERE], {}, {VIP: "goto cluster-1"}, {}),
        ([HERE, THERE, "10.244.0.3"], {}, {VIP: "goto cluster-4"}, {}),
        ([THERE], {"internalTrafficPolicy": "Local"}, {}, {VIP: "drop"}),
        ([HERE, THERE], {"internalTrafficPolicy": "Local"}, {VIP: "goto cluster-1"}, {}),
        ([HERE, THERE], NODE_PORT, {VIP: "goto cluster-2", PORT: "goto np-external-2"}, {}),
        ([], NODE_PORT, {}, {VIP: "goto reject-chain", PORT: "goto reject-chain"}),
        (
            [HERE, THERE],
            LOCAL,
            {
                VIP: "goto cluster-2",
                EXTERNAL: "goto external-local-2-1",
                PORT: "goto np-external-local-2-1",
            },
            {},
        ),
        (
            [THERE],
            LOCAL,
            {VIP: "goto cluster-1", EXTERNAL: "goto external-local-1", PORT: "goto np-external-local-1"},
            {EXTERNAL: "drop", PORT: "drop"},
        ),
    ],
)
def test_addresses_lead_to_shared_chains_or_are_refused(
    hosts: list[str], spec: dict[str, Any], leads: dict[str, str], refused: dict[str, str]
) -> None:
    layout = laid(*hosts, **spec)

    assert {**told(layout, SETS.service_ips), **told(layout, SETS.node_ports)} == leads
    assert {**told(layout, SETS.no_endpoint_services), **told(layout, SETS.no_endpoint_node_ports)} == refused
    assert {data.removeprefix("goto ") for data in leads.values()} <= set(layout.chains)
    assert all(element.comment == "shop/web:http" for element in layout.own.values())


def test_local_lists_hold_the_endpoints_of_this_node_only() -> None:
    layout = laid(HERE, THERE, **LOCAL)

    assert {(place.map, place.local): len(listed) for place, listed in layout.lists.items()} == {
        ("endpoints", False): 2,
        ("endpoints", True): 1,
        ("node-port-endpoints", False): 2,
        ("node-port-endpoints", True): 1,
    }


def test_only_pods_of_this_node_are_masqueraded_on_the_way_to_themselves() -> None:
    layout = laid(HERE, THERE)

    hairpin = [unpack(SETS.hairpin.key, key) for name, key in layout.common if name == "hairpin"]
    assert hairpin == [("10.244.0.1", "10.244.0.1")]


@pytest.mark.parametrize(
    ("node_ip", "same"),
    [("10.199.0.21", True), ("203.0.113.9", False)],
    ids=["node outside the ranges", "node inside the ranges"],
)
def test_sources_that_are_written_in_other_ways_share_a_chain(node_ip: str, same: bool) -> None:
    def leads(address: str, *ranges: str) -> str:
        spec: dict[str, Any] = {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}
        status = {"loadBalancer": {"ingress": [{"ip": address}]}}
        settings = Settings(Family.IPV4, None, node_ip)
        (verdict,) = told(laid(HERE, settings=settings, status=status, **spec), SETS.firewall_ips).values()
        return verdict

    first = leads("192.0.2.1", "203.0.113.0/24", "203.0.113.128/25", "198.51.100.0/25")
    second = leads("192.0.2.2", "198.51.100.0/25", "203.0.113.0/24")
    assert first.startswith("jump firewall-")
    assert (first == second) is same
    assert first != leads("192.0.2.1", "203.0.113.0/25")


def test_an_address_that_a_service_lists_twice_is_served_once() -> None:
    layout = laid(HERE, externalIPs=["10.96.0.1"])

    assert told(layout, SETS.service_ips) == {VIP: "goto cluster-1"}


PORT_NAME = ServicePortName("cache", "redis", "", "TCP")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (names.of_port(ServicePortName("ns1", "svc1", "p80", "TCP")), "ULMVA6XW-ns1/svc1/tcp/p80"),
        (names.of_port(PORT_NAME), "5ZKWYFH7-cache/redis/tcp/"),
        (names.of_endpoint(PORT_NAME, Endpoint("10.42.1.31", 6379)), "LADHJ4CG-cache/redis/tcp/__10.42.1.31/6379"),
        (
            names.of_endpoint(PORT_NAME, Endpoint("fd00:10:42:1::31", 6379)),
            "7NPJUNMO-cache/redis/tcp/__fd00.10.42.1..31/6379",
        ),
    ],
)
def test_names_are_kube_proxys(name: str, expected: str) -> None:
    assert name == expected


@given(st.text(max_size=400), st.text(max_size=400))
def test_names_can_be_written_in_nfts_language(name: str, port: str) -> None:
    made = "endpoint-" + names.of_endpoint(ServicePortName("ns", name, port, "TCP"), Endpoint("10.0.0.1", 80))

    assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-")
    assert len(made) <= 255
