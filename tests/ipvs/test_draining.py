"""A real server that is wanted no more keeps its connections, and goes when they have ended."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import ServiceName
from kpx.proxier.ipvs.backend import IpvsBackend
from kpx.proxier.node import LocalTraffic
from tests.ipvs.worlds import Clock, backend, grouped, world
from tests.kernel.daemon.process import eventually
from tests.packets.node import IPVS, Node
from tests.unit.proxier.objects import endpoint_slice, service

ADDRESS = "10.96.100.20"
NAME = f"TCP {ADDRESS}:80 rr"
PODS = {"a10": "10.244.21.10", "b10": "10.244.22.10"}
SETTINGS = {"local_traffic": LocalTraffic("10.244.0.0/16"), "node_ip": "10.199.0.21"}


def serve(desired: DesiredState, *pods: str) -> None:
    desired.tracker.apply_service(service("shop/web", clusterIP=ADDRESS))
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", *(PODS[pod] for pod in pods)))


def real(pod: str, weight: int) -> str:
    return f"-> {PODS[pod]}:8080 Masq {weight}"


class Visitor:
    """A client that keeps its connection."""

    def __init__(self, lab: Lab) -> None:
        self._connection = http.client.HTTPConnection(ADDRESS, 80, timeout=5)
        self._connection.auto_open = 0
        with namespaces.entered(lab.namespace("a11")):
            self._connection.connect()

    def asks(self) -> str:
        """Who answers."""
        self._connection.request("GET", "/")
        return str(json.loads(self._connection.getresponse().read())["answers"])

    def close(self) -> None:
        """End the connection at once, with a reset: IPVS forgets it after ten seconds, not two minutes."""
        if self._connection.sock:
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


def once(lab: Lab) -> str:
    with closing(Visitor(lab)) as visitor:
        return visitor.asks()


@pytest.fixture
def node(scenario_lab: Lab) -> Iterator[Lab]:
    """The test runs on the lab's node, which is blank before and after."""
    Node(scenario_lab).blank(IPVS)
    with namespaces.entered(scenario_lab.namespace(NODE)):
        yield scenario_lab
    Node(scenario_lab).blank(IPVS)


def other(pod: str) -> str:
    return next(name for name in PODS if name != pod)


def test_its_connections_go_on_and_new_ones_go_elsewhere(node: Lab) -> None:
    desired, clock = world(), Clock()
    serve(desired, *PODS)
    desired.take()
    with backend(Family.IPV4, clock, **SETTINGS) as ours:
        ours.sync(desired.frontends)
        with closing(Visitor(node)) as visitor:
            pod = visitor.asks()
            serve(desired, other(pod))
            ours.update(desired.take())
            assert grouped()[NAME] == {real(pod, 0), real(other(pod), 1)}
            assert visitor.asks() == pod
            assert {once(node) for _ in range(4)} == {other(pod)}

            clock.now += 60
            ours.tend()
            assert real(pod, 0) in grouped()[NAME]
            assert ours.drifted() is None
            assert visitor.asks() == pod

        eventually(lambda: _tended(ours, clock) == {real(other(pod), 1)}, what="it does not go")


def test_one_that_returns_is_used_again_and_has_its_connections(node: Lab) -> None:
    desired = world()
    serve(desired, *PODS)
    desired.take()
    with backend(**SETTINGS) as ours, ExitStack() as stack:
        ours.sync(desired.frontends)
        visitor = stack.enter_context(closing(Visitor(node)))
        pod = visitor.asks()
        serve(desired, other(pod))
        ours.update(desired.take())
        serve(desired, *PODS)
        ours.update(desired.take())
        assert grouped()[NAME] == {real("a10", 1), real("b10", 1)}
        assert visitor.asks() == pod
        assert {once(node) for _ in range(4)} == {*PODS}


def test_a_restart_goes_on_draining(node: Lab) -> None:
    desired, clock = world(), Clock()
    serve(desired, *PODS)
    desired.take()
    with backend(**SETTINGS) as ours, ExitStack() as stack:
        ours.sync(desired.frontends)
        visitor = stack.enter_context(closing(Visitor(node)))
        pod = visitor.asks()
        serve(desired, other(pod))
        ours.update(desired.take())
        with backend(Family.IPV4, clock, **SETTINGS) as restarted:
            outcome = restarted.sync(desired.frontends)
            assert outcome.repaired == ()
            assert visitor.asks() == pod
            visitor.close()
            eventually(lambda: _tended(restarted, clock) == {real(other(pod), 1)}, what="it does not go")


def _tended(ours: IpvsBackend, clock: Clock) -> set[str]:
    clock.now += 60
    ours.tend()
    return grouped()[NAME]


def test_a_service_that_is_deleted_takes_its_connections_along(node: Lab) -> None:
    desired = world()
    serve(desired, *PODS)
    desired.take()
    with backend(**SETTINGS) as ours:
        ours.sync(desired.frontends)
        visitor = Visitor(node)
        visitor.asks()
        desired.tracker.remove_service(ServiceName("shop", "web"))
        ours.update(desired.take())
        assert grouped() == {}
        visitor.close()
