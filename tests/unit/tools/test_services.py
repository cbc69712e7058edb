"""The table of Services, made of what is wanted and of what the kernel counts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import pytest
import yaml

from kpx.cluster.objects import EndpointSlice, Node, Object, Service
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Kind, ServicePortName
from kpx.proxier.plan import Viewpoint
from kpx.tools import in_iptables, objects, stock
from kpx.tools.in_iptables import IptablesHeld
from kpx.tools.kernel import Destination, Port
from kpx.tools.services import Filter, Layout, Row, count, rows, text, with_rates
from tests.kernel.daemon.conftest import FIXTURE
from tests.unit.proxier.objects import endpoint_slice, service

KINDS: Mapping[str, type[Object]] = {"Service": Service, "EndpointSlice": EndpointSlice, "Node": Node}


def fixture_ports() -> list[Port]:
    documents = yaml.safe_load_all((FIXTURE / "objects.yaml").read_text())
    found = [msgspec.convert(one, KINDS[one["kind"]]) for one in documents if one["kind"] in KINDS]
    return objects.wanted(found, Viewpoint(node="node-a"))


def stock_held(connections: int = 3) -> IptablesHeld:
    """A real kube-proxy's rules, each of which was met so many times."""
    lines = (FIXTURE / "iptables-nft-save.txt").read_text().splitlines()
    nat = [f"[{connections}:9] {line}" if line[:1] == "-" else line for line in lines]
    refusals = [f" {line}" for line in lines if "endpoints" in line and line.startswith("-A KUBE-")]
    return IptablesHeld({Family.IPV4: in_iptables.parse(nat)}, {Family.IPV4: refusals})


def test_the_counters_of_a_kube_proxys_chains_are_found_by_their_hashes() -> None:
    ports = fixture_ports()
    counted = count(stock_held(), ports)
    assert counted is not None
    ipv4 = {key: found for key, found in counted.items() if key[0] is Family.IPV4}

    assert ipv4[Family.IPV4, ServicePortName("shop", "web", "http", "TCP")]
    assert {number for found in ipv4.values() for number in found.values()} == {3}


def test_what_iptables_alone_tells_is_what_the_cluster_wants() -> None:
    def told(ports: list[Port]) -> dict[ServicePortName, tuple[set[tuple[str | None, int]], set[Destination]]]:
        return {
            one.port: (
                {(frontend.address, frontend.port) for frontend in one.frontends},
                {(end.ip, end.port) for end in one.reachable},
            )
            for family, one in ports
            if family is Family.IPV4
        }

    assert told(stock_held().ports()) == told(fixture_ports())


def test_kinds_are_told_by_comments() -> None:
    edge = next(one for _, one in stock_held().ports() if one.port.name == "edge")
    assert {one.kind for one in edge.frontends} == {Kind.CLUSTER_IP, Kind.LOAD_BALANCER, Kind.NODE_PORT}


class Counting:
    program, counts = "a test", True

    def __init__(self, counted: Mapping[Destination, int]) -> None:
        self._counted = counted

    def connections(self, family: Family, frontends: Frontends) -> Mapping[Destination, int]:
        return self._counted

    def ports(self) -> list[Port]:
        return []


def shop(*addresses: str, **spec: object) -> list[Port]:
    return objects.wanted(
        [service("shop/web", **spec), endpoint_slice("shop/web-1", *addresses)], Viewpoint(node="node-a")
    )


def table(ports: list[Port], *counts: Mapping[Destination, int]) -> list[Row]:
    readings = [rows(ports, count(Counting(counted), ports)) for counted in counts]
    return with_rates(readings[0], readings[1], 2.0) if len(readings) > 1 else readings[0]


def test_a_row() -> None:
    ports = shop(
        "10.0.0.1@node-a", "10.0.0.2@node-b", type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}]
    )

    (row,) = table(ports, {("10.0.0.1", 8080): 5})

    assert (row.full_name, row.ready, row.connections, row.without_endpoints) == ("shop/web:http", 2, 5, False)
    assert [(one.ip, one.local, one.connections) for one in row.endpoints] == [
        ("10.0.0.1", True, 5),
        ("10.0.0.2", False, 0),
    ]
    shown = text([row], Layout(endpoints=True)).splitlines()
    assert shown[1].split() == ["shop", "web", "80:30080/TCP", "cluster,nodeport", "10.96.0.1", "2/2", "5"]
    assert shown[2].split() == ["->", "10.0.0.1:8080", "ready,", "local", "5"]


def test_rates_are_differences_and_a_sum_that_fell_tells_none() -> None:
    first, second = ("10.0.0.1", 8080), ("10.0.0.2", 8080)
    (row,) = table(shop("10.0.0.1", "10.0.0.2"), {first: 10, second: 100}, {first: 20, second: 4})

    assert [one.per_second for one in row.endpoints] == [5.0, 0.0]
    assert (row.connections, row.per_second) == (24, 5.0)


def test_without_endpoints_is_marked() -> None:
    (row,) = table(shop(), {})
    assert row.without_endpoints
    assert "0/0 NONE" in text([row], Layout())


def test_a_policy_without_an_endpoint_here_is_marked() -> None:
    (row,) = table(shop("10.0.0.1@node-b", internalTrafficPolicy="Local"), {})
    assert (row.without_endpoints, row.dropped) == (False, True)
    assert "1/1 none here" in text([row], Layout())


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        (Filter(), True),
        (Filter("shop"), True),
        (Filter("blog"), False),
        (Filter(pattern=re.compile("^shop/w.b:")), True),
        (Filter(pattern=re.compile("cart")), False),
        (Filter(ip="10.96.0.1"), True),
        (Filter(ip="10.0.0.1"), True),
        (Filter(ip="10.0.0.9"), False),
        (Filter(port=80), True),
        (Filter(port=8080), False),
        (Filter(ports=frozenset({ServicePortName("shop", "web", "http", "TCP")})), True),
        (Filter(ports=frozenset()), False),
    ],
)
def test_filters(wanted: Filter, accepted: bool) -> None:
    (row,) = table(shop("10.0.0.1"), {})
    assert wanted.accepts(row) is accepted


def test_a_mode_that_does_not_count_shows_no_zeros() -> None:
    (row,) = rows(shop("10.0.0.1"), None)
    assert (row.connections, row.endpoints[0].connections) == (None, None)
    assert "CONNECTIONS" not in text([row], Layout(counted=False))


def test_the_configuration_of_a_stock_kube_proxy() -> None:
    page = b'{"kubeproxy.config.k8s.io":{"mode":"nftables","clusterCIDR":"10.0.0.0/8","detectLocalMode":"ClusterCIDR",'
    page += b'"nodePortAddresses":null,"nftables":{"masqueradeAll":true,"syncPeriod":"30s"},"later":1}}'

    found = stock.parse(page)

    assert found is not None
    assert (found.mode, found.masquerade_all, found.pods_known) == ("nftables", True, True)
    assert stock.parse(b"<html>") is None
    assert stock.parse(b'{"other":{}}') is None
