"""Real packets followed: each flow is told with the backend that its server says it was, and with the rules it took."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kpx.kernel import sysctl
from kpx.lab import Lab, namespaces, requests
from kpx.lab.objects import configuration
from kpx.lab.requests import Reply, Request
from kpx.net import Family
from kpx.tools.cluster import Options
from kpx.trace.live import command
from kpx.trace.live.command import Wish
from kpx.trace.live.flow import Flow, Outcome
from kpx.trace.live.here import senders_here
from kpx.trace.live.tracer import LiveTrace
from kpx.trace.questions import Asked
from kpx.trace.reading.kernel import trace_here
from kpx.trace.target import parse_target
from tests.packets.fixtures import Planting
from tests.packets.live import assert_seen, followed
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant
from tests.packets.own import Kpx
from tests.packets.plays import SCENARIOS
from tests.packets.proxies import StockRules
from tests.packets.scenario import resolve
from tests.packets.world import World

CASE = "cluster-ip/balances-over-all-ready-endpoints"
VIP, EMPTY = "10.96.100.1", "10.96.100.7"
STOCK = [pytest.param(one, id=one.name) for one in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)]
LOGGER = "net/netfilter/nf_log/2"
RATE = 1000
ALONE = Options(kernel_only=True)
FLOWS, NOISE = 100, 20_000
DEADLINE_SECONDS = 40.0


def live(*targets: str, sender: str = "", folder: Path | None = None) -> LiveTrace:
    trace = [parse_target(target) for target in targets or (f"{VIP}:80",)]
    return LiveTrace(trace, senders_here(sender), rate=RATE, **({"folder": folder} if folder else {}))


def ask(lab: Lab, *places: str, address: str = VIP, port: int = 80, protocol: str = "tcp") -> list[Reply]:
    return requests.send([Request(lab.namespace(place), protocol, address, port, timeout=5.0) for place in places])


def rules(flow: Flow) -> list[tuple[str, str, str, str]]:
    return [(hop.hook, hop.table, hop.chain, hop.rule) for hop in flow.hops if hop.telling]


@pytest.mark.parametrize("variant", STOCK)
def test_every_flow_is_told_as_its_server_saw_it_beside_much_other_traffic(
    planted: Planting, scenario_lab: Lab, variant: Variant, tmp_path: Path
) -> None:
    planted(variant)
    replies: list[Reply] = []
    with live(folder=tmp_path) as trace, Noise(scenario_lab.namespace("a12"), NOISE) as noise:
        for batch in range(10):
            noise.wait_for(NOISE * batch // 10)
            replies += ask(scenario_lab, *["a11", "node-a", "client", "a11", "client2"] * (FLOWS // 50))
        flows = followed(trace, FLOWS)
        noise.wait_for(NOISE)
        assert trace.lost == 0

    assert_seen(scenario_lab, replies, flows)


class Noise:
    """Sends datagrams, each a flow of its own, through the node."""

    def __init__(self, namespace: str, number: int) -> None:
        with namespaces.entered(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._number = number
        self._sent = 0
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Noise:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join()
        self._socket.close()

    def _send(self) -> None:
        for number in range(self._number):
            self._socket.sendto(b"noise", ("10.244.22.11", 20_000 + number % 40_000))
            if number % 100 == 99:
                with self._condition:
                    self._sent = number + 1
                    self._condition.notify_all()

    def wait_for(self, number: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._sent >= number, DEADLINE_SECONDS)


def test_kpx_itself(scenario_lab: Lab) -> None:
    node = Node(scenario_lab)
    case = resolve(CASE, SCENARIOS[CASE], NFTABLES.mode, Family.IPV4)
    proxy = Kpx(node, NFTABLES, Family.IPV4)
    try:
        proxy.start(World(Family.IPV4, scenario_lab.topology, case.objects).objects, configuration(NFTABLES.mode, {}))
        with namespaces.entered(node.namespace), live() as trace:
            replies = ask(scenario_lab, "a11", "client", "node-a")
            flows = followed(trace, 3)
    finally:
        proxy.stop()
        node.blank(NFTABLES)

    assert_seen(scenario_lab, replies, flows)
    for flow in flows:
        assert {table for _, table, _, _ in rules(flow)} == {"ip kpx"}
        assert f"dnat to {flow.backend}" in [hop.note for hop in flow.hops]


@pytest.mark.parametrize("variant", STOCK)
def test_the_rules_are_those_of_the_static_walk(planted: Planting, scenario_lab: Lab, variant: Variant) -> None:
    planted(variant)
    client = scenario_lab.topology.place("client").address(Family.IPV4)
    with live() as trace:
        ask(scenario_lab, "client")
        (flow,) = followed(trace, 1)
    walked = trace_here(parse_target(f"{VIP}:80"), client)

    assert flow.incoming == walked.sender.interface
    assert flow.translated
    assert flow.masqueraded
    (branch,) = [one for one in walked.branches if one.ending.destination == flow.backend.address]
    known = {(hop.hook, hop.table, hop.chain, hop.rule) for hop in (*walked.hops, *branch.hops)}
    assert len(rules(flow)) > 5
    assert set(rules(flow)) <= known


@pytest.mark.parametrize("variant", STOCK)
def test_what_is_rejected_and_what_is_dropped(planted: Planting, scenario_lab: Lab, variant: Variant) -> None:
    node = planted(variant)
    node.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 10; }")
    node.run("nft", "add rule inet fw pass ip saddr 10.244.21.13 tcp dport 8080 drop")
    dropped = Request(scenario_lab.namespace("a13"), "tcp", VIP, 80, timeout=0.2)

    with live(f"{VIP}:80", f"{EMPTY}:80") as trace:
        ask(scenario_lab, "a11", address=EMPTY)
        requests.send([dropped])
        rejection, drop = followed(trace, 2)

    assert (rejection.outcome, rejection.reason) == (Outcome.REJECTED, "the Service has no endpoints")
    assert rejection.backend is None
    assert drop.outcome is Outcome.DROPPED
    assert drop.client.address == "10.244.21.13"
    rule = "meta nfproto ipv4 ip saddr 10.244.21.13 meta l4proto tcp th dport 8080 drop"
    assert drop.reason == f"by rule '{rule}' of table inet fw, chain pass, which is not kube-proxy's"
    assert drop.hops[-1].chain == "pass"


@pytest.mark.parametrize("variant", STOCK)
def test_an_answer_that_is_dropped_on_its_way_back(planted: Planting, scenario_lab: Lab, variant: Variant) -> None:
    node = planted(variant)
    node.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 10; }")
    node.run("nft", "add rule inet fw pass ip saddr 10.244.0.0/16 tcp sport 8080 drop")

    with live() as trace:
        requests.send([Request(scenario_lab.namespace("client"), "tcp", VIP, 80, timeout=0.1)])
        (flow,) = followed(trace, 1)

    assert flow.outcome is Outcome.ANSWER_LOST
    assert flow.backend is not None
    assert flow.backend.port == 8080
    assert flow.reason.startswith("its answer was dropped: by rule 'meta nfproto ipv4 ip saddr 10.244.0.0/16 ")
    assert [hop.chain for hop in flow.answer_hops if hop.telling][-1] == "pass"


@pytest.mark.parametrize("variant", STOCK)
def test_nft_can_print_what_marks_packets(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    with live(f"{VIP}:80", "[fd00:96::100c]:80", "10.96.100.2:53/udp", "nodeport/30080") as trace:
        text = node.run("nft", "list", "ruleset")
        assert not trace.notes

    assert "limit rate 1000/second burst 1000 packets meta nftrace set 1" in text
    assert "ct original ip daddr 10.96.100.1" in text


def test_a_backend_where_nothing_listens_and_one_that_is_silent(planted: Planting, scenario_lab: Lab) -> None:
    node = planted(NFTABLES)
    node.run("nft", "add table ip early; add chain ip early pre { type nat hook prerouting priority -101; }")
    node.run("nft", "add rule ip early pre ip daddr 10.96.100.9 tcp dport 1 dnat to 10.244.22.11:9")
    node.run("nft", "add rule ip early pre ip daddr 10.96.100.9 tcp dport 2 dnat to 10.244.21.200:8080")
    silent = Request(scenario_lab.namespace("client"), "tcp", "10.96.100.9", 2, timeout=0.1)

    with LiveTrace([parse_target(f"10.96.100.9:{port}") for port in (1, 2)], patience=0.5) as trace:
        ask(scenario_lab, "a11", address="10.96.100.9", port=1)
        requests.send([silent])
        flows = {flow.target.port: flow for flow in followed(trace, 2)}

    assert flows[1].outcome is Outcome.REFUSED
    assert flows[1].backend == ("10.244.22.11", 9)
    assert flows[2].outcome in (Outcome.UNANSWERED, Outcome.LOST)
    assert flows[2].reason


@pytest.mark.parametrize("variant", STOCK)
def test_of_udp_only_the_first_packet_of_a_flow_is_told(planted: Planting, scenario_lab: Lab, variant: Variant) -> None:
    planted(variant)
    with namespaces.entered(scenario_lab.namespace("a11")):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client, live("10.96.100.2:53/udp") as trace:
        client.connect(("10.96.100.2", 53))
        client.settimeout(5.0)
        answers = set()
        for _ in range(3):
            client.send(b"who?")
            answers.add(json.loads(client.recv(4096))["answers"])
        port = client.getsockname()[1]
        other = ask(scenario_lab, "a11", address="10.96.100.2", port=53, protocol="udp")
        flows = followed(trace, 2)

    assert [flow.client.port for flow in flows] == [port, other[0].source_port]
    (answering,) = answers
    assert flows[0].backend == (scenario_lab.topology.place(answering).address(Family.IPV4), 53)


def test_only_the_senders_that_are_asked_for(planted: Planting, scenario_lab: Lab) -> None:
    planted(IPTABLES_NFT)
    told = {}
    for sender in ("pod", "node", "external", "10.244.21.12"):
        with live(sender=sender) as trace:
            replies = ask(scenario_lab, "a11", "a12", "node-a", "client")
            last = ask(scenario_lab, *{"pod": ["a11"], "node": ["node-a"], "external": ["client"]}.get(sender, ["a12"]))
            flows = []
            for flow in trace.flows(DEADLINE_SECONDS):
                flows.append(flow.client.port)
                if flow.client.port == last[0].source_port:
                    break
            told[sender] = [number for number, reply in enumerate(replies) if reply.source_port in flows]

    assert told == {"pod": [0, 1], "node": [2], "external": [3], "10.244.21.12": [1]}


@pytest.mark.parametrize("variant", STOCK)
def test_ipv6(scenario_lab: Lab, variant: Variant) -> None:
    node = Node(scenario_lab)
    with namespaces.entered(node.namespace):
        try:
            StockRules(node, variant, Family.IPV6).start([], {})
            with live("[fd00:96::100c]:80") as trace:
                replies = ask(scenario_lab, "a11", "client", address="fd00:96::100c")
                flows = followed(trace, 2)
        finally:
            node.blank(variant)

    assert_seen(scenario_lab, replies, flows, Family.IPV6)
    assert all(len(rules(flow)) >= 3 for flow in flows)


@pytest.mark.parametrize("variant", STOCK)
def test_a_node_port(planted: Planting, scenario_lab: Lab, variant: Variant) -> None:
    planted(variant)
    with live("nodeport/30080") as trace:
        replies = ask(scenario_lab, "client", address="10.199.0.21", port=30080)
        # The port of another host is none of the node's.
        ask(scenario_lab, "a11", address="10.199.0.22", port=30080)
        replies += ask(scenario_lab, "client2", address="10.199.0.21", port=30080)
        flows = followed(trace, 2)

    assert_seen(scenario_lab, replies, flows)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


def tables(node: Node) -> str:
    return node.run("nft", "list", "tables")


@pytest.mark.parametrize(
    ("how", "next_one"),
    [
        (signal.SIGINT, []),
        (signal.SIGTERM, []),
        (signal.SIGHUP, []),
        (signal.SIGKILL, ["trace", f"{VIP}:80"]),
        (signal.SIGKILL, ["trace", f"{VIP}:80", "--live", "--timeout", "0.1"]),
        (signal.SIGKILL, ["cleanup"]),
    ],
)
def test_nothing_stays_behind(planted: Planting, how: signal.Signals, next_one: list[str]) -> None:
    node = planted(IPTABLES_LEGACY)
    former = sysctl.read(LOGGER)
    process = subprocess.Popen(
        [sys.executable, "-m", "kpx", "trace", f"{VIP}:80", "--live"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: "kpx-trace" in tables(node))
        wait_until(lambda: sysctl.read(LOGGER) == "nfnetlink_log")
        os.kill(process.pid, how)
        process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
        process.communicate()

    assert "kpx-trace" not in tables(node)
    if how is signal.SIGKILL:
        # The logger is what no kernel takes back: the next run does, or the daemon.
        assert sysctl.read(LOGGER) == "nfnetlink_log"
        subprocess.run([sys.executable, "-m", "kpx", *next_one], capture_output=True, check=False)
    else:
        assert process.returncode in (3, 130)
    assert sysctl.read(LOGGER) == former


def test_it_ends_with_its_reader(planted: Planting) -> None:
    node = planted(NFTABLES)
    command = [sys.executable, "-m", "kpx", "trace", f"{VIP}:80", "--live", "--timeout", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        try:
            wait_until(lambda: "kpx-trace" in tables(node))
            assert any(b"following new flows" in line for line in process.stderr)
            process.stdout.close()
            assert process.wait(DEADLINE_SECONDS) == 0
            assert b"Traceback" not in process.stderr.read()
        finally:
            process.kill()
    assert "kpx-trace" not in tables(node)


@pytest.mark.parametrize("words", [["--count", "3"], ["--rate", "5"], ["--timeout", "0"], ["--probe", "--count", "1"]])
def test_what_is_for_following_alone_is_refused_elsewhere(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "kpx", "trace", f"{VIP}:80", *words], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"add --live" in done.stderr


def test_where_conntrack_announces_nothing(planted: Planting, scenario_lab: Lab) -> None:
    planted(NFTABLES)
    sysctl.write("net/netfilter/nf_conntrack_events", 0)
    try:
        with LiveTrace([parse_target(f"{VIP}:80")], patience=0.3) as trace:
            assert "announces nothing" in trace.notes[0]
            replies = ask(scenario_lab, "client")
            assert_seen(scenario_lab, replies, followed(trace, 1))
    finally:
        sysctl.write("net/netfilter/nf_conntrack_events", 2)


@pytest.mark.parametrize(
    ("target", "sender", "status", "words"),
    [
        (f"{VIP}:80", "nobody", 2, "'nobody' is no sender"),
        (f"{VIP}:80", "fd00::1", 1, "of different IP families"),
        (VIP, "", 2, "names no port"),
    ],
)
def test_what_cannot_be(
    planted: Planting, target: str, sender: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(NFTABLES)
    assert command.run(Wish(Asked(target, sender=sender), live=True), ALONE) == status
    said = capsys.readouterr().err
    assert words in said.splitlines()[-1]


def test_two_traces_do_not_meet(planted: Planting, scenario_lab: Lab) -> None:
    planted(NFTABLES)
    with live() as one, live() as other:
        ask(scenario_lab, "a11")
        assert followed(one, 1)[0].backend == followed(other, 1)[0].backend


def test_it_is_stopped_from_another_thread(planted: Planting) -> None:
    planted(NFTABLES)
    with live() as trace, ThreadPoolExecutor(1) as thread:
        thread.submit(trace.stop)
        assert list(trace.flows()) == []


@pytest.mark.parametrize("variant", STOCK)
def test_as_json(planted: Planting, scenario_lab: Lab, variant: Variant, capsys: pytest.CaptureFixture[str]) -> None:
    node = planted(variant)

    def send() -> None:
        with namespaces.entered(node.namespace):
            wait_until(lambda: "kpx-trace" in tables(node))
        ask(scenario_lab, "client")

    asked = Asked(f"{VIP}:80")
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send)
        status = command.run(Wish(asked, count=1, seconds=DEADLINE_SECONDS, as_json=True), ALONE)
        sent.result()

    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["apiVersion"] == "kpx/v1"
    assert document["outcome"] == "answered"
    assert document["time"].endswith("Z")
    assert document["client"]["address"] == "203.0.113.10"
    assert document["source"]["address"] == "10.199.0.21"
    assert {hop["hook"] for hop in document["hops"]} == {"prerouting", "forward", "postrouting"}
