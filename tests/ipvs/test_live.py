"""Real packets followed in mode ipvs, and on a kernel whose only iptables is the legacy one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kpx.kernel import sysctl
from kpx.lab import Lab, namespaces, requests
from kpx.lab.objects import configuration
from kpx.lab.requests import Request
from kpx.net import Family
from kpx.trace.live.flow import Flow, Outcome
from kpx.trace.live.tracer import LiveTrace
from kpx.trace.target import parse_target
from tests.packets.live import assert_seen, followed
from tests.packets.node import IPTABLES_LEGACY, IPVS, Node, Variant
from tests.packets.own import Kpx
from tests.packets.plays import SCENARIOS
from tests.packets.scenario import resolve
from tests.packets.world import World

CASE = "cluster-ip/balances-over-all-ready-endpoints"
VIP, EMPTY = "10.96.100.1", "10.96.100.7"
LOGGER = "net/netfilter/nf_log/2"
FLOWS = 100
DEADLINE_SECONDS = 60.0


BOTH = pytest.mark.parametrize(
    "node", [pytest.param(IPVS, id="ipvs"), pytest.param(IPTABLES_LEGACY, id="iptables-legacy")], indirect=True
)


@pytest.fixture
def node(scenario_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Node]:
    """The node with the objects of a scenario; the test's thread is in it."""
    variant: Variant = request.param
    case = resolve(CASE, SCENARIOS[CASE], variant.mode, Family.IPV4)
    node = Node(scenario_lab)
    proxy = Kpx(node, variant, Family.IPV4)
    try:
        proxy.start(World(Family.IPV4, scenario_lab.topology, case.objects).objects, configuration(variant.mode, {}))
        with namespaces.entered(node.namespace):
            yield node
    finally:
        proxy.stop()
        node.blank(variant)


def live(*targets: str, folder: Path) -> LiveTrace:
    return LiveTrace([parse_target(target) for target in targets], rate=1000, folder=folder)


def hops(flow: Flow) -> set[tuple[str, str]]:
    return {(hop.hook, hop.table) for hop in flow.hops if hop.telling}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


def raw(node: Node) -> str:
    return node.run("iptables-legacy-save", "-t", "raw")


@BOTH
def test_every_flow_is_told_as_its_server_saw_it(node: Node, scenario_lab: Lab, tmp_path: Path) -> None:
    asked = [
        Request(scenario_lab.namespace(place), "tcp", VIP, 80, timeout=10.0) for place in ("a11", "node-a", "client")
    ]
    with live(f"{VIP}:80", folder=tmp_path) as trace:
        replies = requests.send((asked * FLOWS)[:FLOWS])
        flows = followed(trace, FLOWS)
        assert not trace.notes

    assert_seen(scenario_lab, replies, flows)
    if node.run("ipvsadm", "-Ln").count("\n") > 3:
        assert all({("input", "ipvs"), ("output", "ipvs")} & hops(flow) for flow in flows)
    assert any(("postrouting", "nat") in hops(flow) for flow in flows)
    assert "TRACE" not in raw(node)
    assert list(tmp_path.iterdir()) == []


@BOTH
@pytest.mark.usefixtures("node")
def test_a_service_without_endpoints(scenario_lab: Lab, tmp_path: Path) -> None:
    with live(f"{EMPTY}:80", folder=tmp_path) as trace:
        requests.send([Request(scenario_lab.namespace("a11"), "tcp", EMPTY, 80, timeout=5.0)])
        (flow,) = followed(trace, 1)

    assert flow.outcome is Outcome.REJECTED
    assert flow.reason.startswith("the Service has no endpoints")


@BOTH
def test_an_answer_that_does_not_leave(node: Node, scenario_lab: Lab, tmp_path: Path) -> None:
    node.run("iptables-legacy", "-I", "FORWARD", "-p", "tcp", "--sport", "8080", "-j", "DROP")

    with LiveTrace([parse_target(f"{VIP}:80")], patience=0.5, folder=tmp_path) as trace:
        requests.send([Request(scenario_lab.namespace("client"), "tcp", VIP, 80, timeout=0.5)])
        (flow,) = followed(trace, 1)

    assert flow.outcome is Outcome.ANSWER_LOST
    assert flow.backend is not None
    assert flow.reason


@pytest.mark.parametrize("node", [IPTABLES_LEGACY], indirect=True)
def test_what_a_killed_trace_leaves_the_next_takes_back(node: Node) -> None:
    before, former = raw(node), sysctl.read(LOGGER)
    process = subprocess.Popen([sys.executable, "-m", "kpx", "trace", f"{VIP}:80", "--live"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: raw(node).count("-j TRACE") == 2)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert "-j TRACE" in raw(node)

    with LiveTrace([parse_target("10.96.100.2:53/udp")]):
        assert f"-d {VIP}/32" not in raw(node)

    assert [line for line in raw(node).splitlines() if line.startswith("-A")] == [
        line for line in before.splitlines() if line.startswith("-A")
    ]
    assert sysctl.read(LOGGER) == former
