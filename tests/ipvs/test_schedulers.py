"""Each scheduler chooses as it should, with real connections."""

from __future__ import annotations

import http.client
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from kpx.lab import Lab, namespaces, requests
from kpx.lab.requests import Outcome, Request
from kpx.net import Family
from tests.packets.node import IPVS, Node
from tests.packets.own import Kpx
from tests.packets.runner import configuration
from tests.packets.scenario import Object
from tests.packets.world import World

ADDRESS, PORT = "10.96.100.20", 80
PODS = ("a10", "b10")
CLIENT = "a11"
# IPVS leads a client's port where it went before, for two minutes past its connection: each visit has its own.
FRESH_PORTS = itertools.count(7001)


def service(protocol: str) -> list[Object]:
    port = {"name": "it", "port": PORT, "protocol": protocol}
    return [
        {"kind": "Service", "metadata": {"name": "it"}, "spec": {"clusterIP": ADDRESS, "ports": [port]}},
        {
            "kind": "EndpointSlice",
            "of": "it",
            "ports": [{"name": "it", "port": 8080, "protocol": protocol}],
            "endpoints": list(PODS),
        },
    ]


@contextmanager
def served(lab: Lab, scheduler: str, protocol: str = "TCP") -> Iterator[tuple[Kpx, list[Object]]]:
    """The Service, served with a scheduler."""
    node = Node(lab)
    node.blank(IPVS)
    objects = World(Family.IPV4, lab.topology, service(protocol)).objects
    proxy = Kpx(node, IPVS, Family.IPV4)
    try:
        proxy.start(objects, configuration("ipvs", {"ipvs": {"scheduler": scheduler}}))
        yield proxy, objects
    finally:
        proxy.stop()
        node.blank(IPVS)


class Held:
    """A connection that is kept open, and the pod at its other end."""

    def __init__(self, lab: Lab) -> None:
        source = ("", next(FRESH_PORTS))
        self._connection = http.client.HTTPConnection(ADDRESS, PORT, timeout=5, source_address=source)
        with namespaces.entered(lab.namespace(CLIENT)):
            self._connection.connect()
        self._connection.request("GET", "/")
        self.pod = str(json.loads(self._connection.getresponse().read())["answers"])

    def close(self) -> None:
        self._connection.close()


def visits(lab: Lab, count: int, protocol: str = "tcp", source_port: int = 0) -> list[str]:
    """Who answers visits that are made one after the other."""
    namespace = lab.namespace(CLIENT)
    ports = [source_port or next(FRESH_PORTS) for _ in range(count)]
    asked = [Request(namespace, protocol, ADDRESS, PORT, source_port=port) for port in ports]
    replies = [requests.send([one])[0] for one in asked]
    assert all(reply.outcome is Outcome.ANSWERED for reply in replies), replies
    return [reply.answers for reply in replies]


@pytest.mark.parametrize("scheduler", ["", "rr", "wrr"])
def test_round_robin_takes_turns(scheduler: str, scenario_lab: Lab) -> None:
    with served(scenario_lab, scheduler):
        pods = visits(scenario_lab, 10)
    assert pods == [*pods[:2]] * 5
    assert {*pods} == {*PODS}


@pytest.mark.parametrize("scheduler", ["lc", "wlc", "sed", "nq"])
def test_least_connections_goes_where_fewest_are_open(scheduler: str, scenario_lab: Lab) -> None:
    with served(scenario_lab, scheduler), ExitStack() as stack:
        held = [stack.enter_context(closing(Held(scenario_lab))) for _ in range(8)]
        assert Counter(one.pod for one in held) == dict.fromkeys(PODS, 4)
        for one in held:
            if one.pod == PODS[0]:
                one.close()
        later = [stack.enter_context(closing(Held(scenario_lab))) for _ in range(3)]
    assert [one.pod for one in later] == [PODS[0]] * 3


def test_source_hashing_keeps_a_client_with_its_pod(scenario_lab: Lab) -> None:
    with served(scenario_lab, "sh"):
        assert len({*visits(scenario_lab, 8)}) == 1
        sources = [f"203.0.113.{100 + number}" for number in range(24)]
        asked = [Request(scenario_lab.namespace("client"), "tcp", ADDRESS, PORT, source) for source in sources]
        first, second = ([reply.answers for reply in requests.send(order)] for order in (asked, list(reversed(asked))))
    assert {*first} == {*PODS}
    assert second == [*reversed(first)]


def test_maglev_hashing_counts_the_clients_port_too(scenario_lab: Lab) -> None:
    ports = range(6001, 6025)
    with served(scenario_lab, "mh", "UDP") as (proxy, objects):
        first = [visits(scenario_lab, 1, "udp", source_port=port)[0] for port in ports]
        # With the Service the kernel forgets its flows.
        proxy.update([])
        proxy.update(objects)
        second = [visits(scenario_lab, 1, "udp", source_port=port)[0] for port in reversed(ports)]
    assert {*first} == {*PODS}
    assert second == [*reversed(first)]


@pytest.mark.parametrize("scheduler", ["dh", "lblc", "lblcr"])
def test_destination_hashing_has_one_pod_for_an_address(scheduler: str, scenario_lab: Lab) -> None:
    with served(scenario_lab, scheduler):
        assert len({*visits(scenario_lab, 8)}) == 1
