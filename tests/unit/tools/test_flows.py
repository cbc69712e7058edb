"""Flows in the words of Services: whose they are, which are stale, and how they are summed up."""

from __future__ import annotations

import pytest

from kpx.kernel.conntrack import SEEN_REPLY, TCP_STATES, Flow, Tuple
from kpx.proxier.plan import Viewpoint
from kpx.tools import objects
from kpx.tools.flows import Owners, Stale, Tally, shown, usage, usage_text
from kpx.tools.kernel import Port
from tests.unit.proxier.objects import endpoint_slice, service

TCP, UDP = 6, 17
NODE = "192.168.0.1"


def flow(protocol: int, to: str, answered_by: str = "", *, state: str = "NONE", client: str = "10.1.1.1") -> Flow:
    """A flow from a client's port 5000; by default it goes where it was sent to."""
    address, _, port = to.rpartition(":")
    backend, _, backend_port = (answered_by or to).rpartition(":")
    original = Tuple(protocol, client, 5000, address, int(port))
    reply = Tuple(protocol, backend, int(backend_port), client, 5000)
    return Flow(original, reply, 1, b"", timeout=30, tcp_state=TCP_STATES.index(state))


def ports(*endpoints: str) -> list[Port]:
    """A Service with the ports 80/TCP (node port 30080) and 53/UDP, and these endpoints."""
    listed = [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    return objects.wanted(
        [
            service("shop/web", type="NodePort", ports=listed),
            endpoint_slice("shop/web-1", *endpoints),
            endpoint_slice("shop/web-2", *endpoints, port="dns", number=5353, protocol="UDP"),
        ],
        Viewpoint(),
    )


@pytest.mark.parametrize(
    ("one", "owner"),
    [
        (flow(TCP, "10.96.0.1:80", "10.0.0.1:8080"), "shop/web:http"),
        (flow(UDP, "10.96.0.1:53", "10.0.0.1:5353"), "shop/web:dns"),
        (flow(UDP, "10.96.0.1:80"), None),
        (flow(TCP, f"{NODE}:30080", "10.0.0.1:8080"), "shop/web:http"),
        (flow(TCP, "192.168.0.2:30080"), None),
        (flow(1, "10.96.0.1:0"), None),
    ],
)
def test_whose_a_flow_is(one: Flow, owner: str | None) -> None:
    found = Owners(ports("10.0.0.1"), {NODE}).of(one)
    assert (str(found) if found else None) == owner


@pytest.mark.parametrize(
    ("one", "stale"),
    [
        (flow(UDP, "10.96.0.1:53", "10.0.0.1:5353"), False),
        (flow(UDP, "10.96.0.1:53", "10.0.0.9:5353"), True),
        (flow(UDP, "10.96.0.1:53"), True),
        (flow(UDP, "10.96.0.2:53", "10.0.0.9:5353"), False),
        (flow(TCP, "10.96.0.1:80", "10.0.0.9:8080", state="SYN_SENT"), True),
        (flow(TCP, "10.96.0.1:80", "10.0.0.1:8080", state="SYN_SENT"), False),
        (flow(TCP, "10.96.0.1:80", "10.0.0.9:8080", state="ESTABLISHED"), False),
        (flow(TCP, f"{NODE}:30080", "10.0.0.9:8080", state="SYN_SENT"), True),
    ],
)
def test_which_flows_are_stale(one: Flow, stale: bool) -> None:
    assert Stale(ports("10.0.0.1"), {NODE})(one) is stale


def test_flows_summed_up() -> None:
    tally = Tally(Owners(ports("10.0.0.1"), {NODE}))
    for number in range(3):
        tally.add(flow(TCP, "10.96.0.1:80", "10.0.0.1:8080", state="ESTABLISHED", client=f"10.1.1.{number}"))
    tally.add(flow(UDP, "8.8.8.8:53", client="10.1.1.0"))

    assert [(one.name, one.flows) for one in tally.states()] == [("TCP ESTABLISHED", 3), ("UDP unreplied", 1)]
    assert [(one.name, one.flows) for one in tally.services(5)] == [("shop/web:http/TCP", 3)]
    assert [(one.name, one.flows) for one in tally.clients(1)] == [("10.1.1.0", 2)]
    assert [(one.name, one.flows) for one in tally.backends(5)] == [("10.0.0.1:8080", 3)]


def test_a_flow_in_one_line() -> None:
    one = flow(UDP, "10.96.0.1:53", "10.0.0.1:5353")
    seen = Flow(one.original, Tuple(UDP, "10.0.0.1", 5353, NODE, 61000), 1, b"", SEEN_REPLY, 30)
    (owner, *_) = [port.port for _, port in ports() if port.port.port == "dns"]

    assert str(shown(seen, owner)).split() == (
        f"UDP replied 10.1.1.1:5000 -> 10.96.0.1:53 -> 10.0.0.1:5353 (as {NODE}:61000) 30s shop/web:dns".split()
    )


def test_growth_and_the_time_that_is_left() -> None:
    found = usage((1000, 1020), 2020, ({"drop": 1}, {"drop": 5}), 2.0)

    assert (found.per_second, found.seconds_to_full, found.statistics_per_second) == (10.0, 100.0, {"drop": 2.0})
    assert usage_text(found).startswith("entries         1020 of 2020 (50.5 %), +10 a second, full in 1.7 min")
    assert usage((9, 3), 100, ({}, {}), 1.0).seconds_to_full is None
    assert "without a limit" in usage_text(usage((1, 2), 0, ({}, {}), 1.0))
