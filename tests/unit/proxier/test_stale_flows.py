"""Which UDP flows are stale: kube-proxy's rules, and where kpx differs."""

from __future__ import annotations

import socket

import pytest

from kpx.kernel.conntrack import Flow, Tuple
from kpx.net import join_port
from kpx.proxier.frontends import (
    Endpoint,
    Frontend,
    Frontends,
    Kind,
    Masquerade,
    Scope,
    ServicePortName,
    Verdict,
)
from kpx.proxier.stale_flows import Serving

CLIENT = ("203.0.113.9", 40000)
NODE = "198.51.100.7"
DNS = [Endpoint("10.42.1.53", 53)]


def flow(destination: str, answered_by: str, protocol: int = socket.IPPROTO_UDP) -> Flow:
    to, by = address(destination), address(answered_by)
    return Flow(Tuple(protocol, *CLIENT, *to), Tuple(protocol, *by, *CLIENT), 1, b"")


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def service_port(
    *destinations: str, endpoints: list[Endpoint] = DNS, name: str = "dns", protocol: str = "UDP"
) -> Frontends:
    """A service port that answers on addresses with ports, or, without an address, on node ports."""
    frontends = tuple(
        Frontend(
            Kind.CLUSTER_IP if host else Kind.NODE_PORT,
            host or None,
            port,
            protocol,
            Scope.CLUSTER,
            Verdict.FORWARD,
            Masquerade.NEVER,
        )
        for host, port in map(address, destinations)
    )
    return Frontends(ServicePortName("kube-system", name, "dns", protocol), frontends, tuple(endpoints))


SERVICE = service_port("10.96.0.10:53", "203.0.113.80:53", ":30053")


@pytest.mark.parametrize(
    ("destination", "answered_by", "stale"),
    [
        ("10.96.0.10:53", "10.42.1.53:53", False),
        ("10.96.0.10:53", "10.42.9.9:53", True),
        ("10.96.0.10:53", "10.42.1.53:5353", True),
        ("10.96.0.10:53", "10.96.0.10:53", True),
        ("10.96.0.10:5353", "10.42.9.9:53", False),
        ("203.0.113.80:53", "10.42.9.9:53", True),
        (f"{NODE}:30053", "10.42.9.9:53", True),
        (f"{NODE}:30053", "10.42.1.53:53", False),
        (f"{NODE}:30053", f"{NODE}:30053", True),
        ("127.0.0.5:30053", "10.42.9.9:53", True),
        ("192.0.2.99:30053", "192.0.2.99:30053", False),
        ("192.0.2.99:53", "192.0.2.99:53", False),
    ],
)
def test_a_flow_is_stale_if_its_frontend_has_endpoints_but_not_this_one(
    destination: str, answered_by: str, stale: bool
) -> None:
    assert Serving([SERVICE], node_addresses={NODE}).stale(flow(destination, answered_by)) is stale
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_SCTP):
        assert not Serving([SERVICE], node_addresses={NODE}).stale(flow(destination, answered_by, protocol))


def test_without_the_nodes_addresses_a_node_port_is_on_any_address_as_in_kube_proxy() -> None:
    assert Serving([SERVICE]).stale(flow("192.0.2.99:30053", "192.0.2.99:30053"))


@pytest.mark.parametrize(
    ("endpoint", "stale"),
    [
        (Endpoint("10.42.1.53", 53, ready=False, serving=True, terminating=True), False),
        (Endpoint("10.42.1.53", 53, ready=False, serving=False), True),
    ],
)
def test_an_endpoint_keeps_its_flows_as_long_as_it_serves(endpoint: Endpoint, stale: bool) -> None:
    service = service_port("10.96.0.10:53", endpoints=[endpoint, Endpoint("10.42.2.53", 53)])
    assert Serving([service]).stale(flow("10.96.0.10:53", "10.42.1.53:53")) is stale


@pytest.mark.parametrize("endpoints", [[], [Endpoint("10.42.1.53", 53, ready=False, serving=False)]])
def test_a_service_without_serving_endpoints_loses_the_flows_that_were_translated(endpoints: list[Endpoint]) -> None:
    serving = Serving([service_port("10.96.0.10:53", ":30053", endpoints=endpoints)], node_addresses={NODE})
    assert serving.stale(flow("10.96.0.10:53", "10.42.1.53:53"))
    assert serving.stale(flow(f"{NODE}:30053", "10.42.1.53:53"))
    assert not serving.stale(flow("10.96.0.10:53", "10.96.0.10:53"))
    assert not serving.stale(flow(f"{NODE}:30053", f"{NODE}:30053"))


def test_a_removed_frontend_loses_its_translated_flows_unless_it_is_in_use_again() -> None:
    moved = service_port("10.96.0.11:53", ":30053")
    serving = Serving([moved], removed=[SERVICE], node_addresses={NODE})
    assert serving.stale(flow("10.96.0.10:53", "10.42.1.53:53"))
    assert not serving.stale(flow("10.96.0.10:53", "10.96.0.10:53"))
    assert not serving.stale(flow("10.96.0.11:53", "10.42.1.53:53"))
    assert not serving.stale(flow(f"{NODE}:30053", "10.42.1.53:53"))


def test_an_address_and_port_of_its_own_counts_before_a_node_port_of_that_number() -> None:
    other = service_port(f"{NODE}:30053", endpoints=[Endpoint("10.42.5.5", 1)], name="other")
    for services in ([SERVICE, other], [other, SERVICE]):
        serving = Serving(services, node_addresses={NODE})
        assert not serving.stale(flow(f"{NODE}:30053", "10.42.5.5:1"))
        assert serving.stale(flow(f"{NODE}:30053", "10.42.1.53:53"))


def test_tcp_service_ports_have_no_udp_flows() -> None:
    tcp = service_port("10.96.0.10:53", protocol="TCP")
    assert not Serving([tcp], removed=[tcp]).stale(flow("10.96.0.10:53", "10.42.9.9:53"))


def test_ipv6() -> None:
    service = service_port("[fd00::10]:53", endpoints=[Endpoint("fd01::53", 53)])
    assert not Serving([service]).stale(flow("[fd00::10]:53", join_port("fd01::53", 53)))
    assert Serving([service]).stale(flow("[fd00::10]:53", "[fd01::99]:53"))
