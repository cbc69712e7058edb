"""The walk predicts whom each new connection reaches, and as whom: on our own virtual servers and on kube-proxy's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpx.lab import Lab, namespaces, requests
from kpx.lab.requests import Outcome, Request
from kpx.net import Family
from kpx.trace.reading.kernel import trace_here
from kpx.trace.result import Trace, Verdict
from kpx.trace.target import Target
from tests.ipvs.stock import GATEWAY, GATEWAY_NODE_PORT, GATEWAY_VIP, REDIS, WEB, StockIpvs
from tests.ipvs.test_schedulers import ADDRESS, PODS, PORT, served
from tests.packets import shares
from tests.packets.node import IPVS, Node

VISITS = 12


def test_shares(scenario_lab: Lab) -> None:
    with served(scenario_lab, "rr"):
        assert shares.check(scenario_lab, Family.IPV4, ADDRESS, PORT, 100) == {*PODS}


@pytest.fixture
def stock(scenario_lab: Lab) -> Iterator[Lab]:
    """A node as kube-proxy left it."""
    node = Node(scenario_lab)
    node.blank(IPVS)
    try:
        StockIpvs(scenario_lab).sync()
        yield scenario_lab
    finally:
        node.blank(IPVS)


def trace_on(lab: Lab, place: tuple[str, int], sender: str) -> Trace:
    with namespaces.entered(Node(lab).namespace):
        return trace_here(Target(*place), sender)


def test_shares_of_kube_proxys_virtual_servers(stock: Lab) -> None:
    assert shares.check(stock, Family.IPV4, *WEB, count=100) == {"a10", "b10"}


@pytest.mark.parametrize(
    ("sender", "place", "pods"),
    [
        ("a11", WEB, {"a10", "b10"}),
        ("a10", WEB, {"a10", "b10"}),
        ("node-a", WEB, {"a10", "b10"}),
        ("a11", GATEWAY, {"a12", "b11"}),
        ("client", GATEWAY_VIP, {"a12"}),
        ("client", GATEWAY_NODE_PORT, {"a12"}),
    ],
)
def test_whom_packets_reach_by_kube_proxys_rules(
    stock: Lab, sender: str, place: tuple[str, int], pods: set[str]
) -> None:
    names = {one: each.name for each in stock.places for one in each.addresses}
    trace = trace_on(stock, place, "node" if sender == "node-a" else stock.topology.place(sender).address(Family.IPV4))
    assert trace.certain
    predicted = {(names[one.ending.destination], one.ending.source) for one in trace.branches}

    replies = requests.send([Request(stock.namespace(sender), "tcp", *place)] * VISITS)

    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
    assert {(reply.answers, reply.client) for reply in replies} == predicted
    assert {pod for pod, _ in predicted} == pods


def test_a_client_stays_with_its_pod(stock: Lab) -> None:
    trace = trace_on(stock, REDIS, stock.topology.place("a11").address(Family.IPV4))
    assert trace.affinity

    replies = requests.send([Request(stock.namespace("a11"), "tcp", *REDIS)] * VISITS)

    (pod,) = {stock.topology.place(reply.answers).address(Family.IPV4) for reply in replies}
    assert pod in {one.ending.destination for one in trace.branches}
    assert len(trace.branches) == 3


def test_a_client_that_may_not_use_the_address(stock: Lab) -> None:
    stranger = "203.0.113.200"  # beyond 203.0.113.0/25
    (branch,) = trace_on(stock, GATEWAY_VIP, stranger).branches
    assert branch.ending.verdict is Verdict.DROPPED
    assert branch.ending.reason == "the sender is none of the Service's loadBalancerSourceRanges"

    asked = Request(stock.namespace("client"), "tcp", *GATEWAY_VIP, source=stranger, timeout=0.4)
    assert [reply.outcome for reply in requests.send([asked])] == [Outcome.TIMEOUT]
