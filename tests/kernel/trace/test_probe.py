"""Packets sent for the purpose: each leg of their way, from wherever they are sent."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from kpx.lab import Lab, namespaces
from kpx.net import Family
from kpx.tools.cluster import Options
from kpx.trace.live import command
from kpx.trace.live.command import Wish
from kpx.trace.live.flow import Outcome
from kpx.trace.live.probe import Probe, probe
from kpx.trace.live.sending import Answer
from kpx.trace.questions import Asked
from kpx.trace.target import parse_target
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node
from tests.packets.proxies import StockRules

WEB, EMPTY, DNS = "10.96.100.1:80", "10.96.100.7:80", "10.96.100.2:53/udp"
ALONE = Options(kernel_only=True)
BACKENDS = {"10.244.21.10", "10.244.22.10"}


@pytest.fixture(params=[pytest.param(one, id=one.name) for one in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)])
def node(scenario_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Node]:
    """The node with stock kube-proxy's rules; the test's thread is in it."""
    node = Node(scenario_lab)
    with namespaces.entered(node.namespace):
        StockRules(node, request.param, Family.IPV4).start([], {})
        yield node
    node.blank(request.param)


def sent(target: str, sender: str = "", seconds: float = 5.0, path: str = "") -> Probe:
    return probe(parse_target(target), sender, seconds=seconds, path=path)


def nft(namespace: str, words: str) -> None:
    with namespaces.entered(namespace):
        subprocess.run(["nft", words], check=True)


@pytest.mark.parametrize(("sender", "seen"), [("node", "10.199.0.21"), ("10.244.21.11", "10.244.21.11")])
@pytest.mark.usefixtures("node")
def test_http(sender: str, seen: str) -> None:
    found = sent(WEB, sender, path="/")

    assert found.got.answer is Answer.ANSWERED
    assert found.got.detail == "HTTP/1.1 200 OK"
    assert found.got.request_seconds is not None
    assert found.flow is not None
    assert found.flow.outcome is Outcome.ANSWERED
    assert found.flow.client == (seen, found.port)
    assert found.flow.backend is not None
    assert found.flow.backend.address in BACKENDS
    assert found.flow.source is not None
    assert found.flow.source.address == seen
    assert found.flow.hops


@pytest.mark.usefixtures("node")
def test_a_datagram_from_some_pod() -> None:
    found = sent(DNS, "pod")

    assert found.place.name.startswith("pod 10.244.21.")
    assert found.got.answer is Answer.ANSWERED
    assert found.flow is not None
    assert found.flow.backend is not None
    assert found.flow.backend.port == 53


@pytest.mark.usefixtures("node")
def test_a_service_without_endpoints() -> None:
    found = sent(EMPTY, "10.244.21.11")

    assert found.got.answer is Answer.REFUSED
    assert found.flow is not None
    assert (found.flow.outcome, found.flow.reason) == (Outcome.REJECTED, "the Service has no endpoints")


def test_one_that_is_dropped(node: Node) -> None:
    node.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 10; policy drop; }")

    found = sent(WEB, "10.244.21.11", seconds=0.5)

    assert found.got.answer is Answer.TIMEOUT
    assert found.flow is not None
    assert found.flow.outcome is Outcome.DROPPED
    assert found.flow.reason == "by the policy of table inet fw, chain pass, which is not kube-proxy's"


def test_one_that_does_not_come_to_the_node(node: Node, scenario_lab: Lab) -> None:
    del node
    chain = "{ type filter hook output priority 0; policy drop; }"
    nft(scenario_lab.namespace("a11"), f"add table ip own; add chain ip own out {chain}")
    try:
        found = sent(WEB, "10.244.21.11", seconds=0.2)
    finally:
        nft(scenario_lab.namespace("a11"), "delete table ip own")

    assert found.flow is None
    assert found.got.answer is Answer.TIMEOUT


def test_from_the_namespace_of_a_process(node: Node, scenario_lab: Lab) -> None:
    del node
    with namespaces.entered(scenario_lab.namespace("a13")):
        child = os.fork()
        if not child:
            os.read(os.pipe()[0], 1)
            os._exit(0)
    try:
        found = sent(WEB, str(child))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)

    assert found.flow is not None
    assert found.flow.client.address == "10.244.21.13"


@pytest.mark.parametrize(
    ("target", "sender", "path", "status", "words"),
    [
        (WEB, "external", "", 2, "cannot be sent from outside"),
        (WEB, "192.0.2.77", "", 2, "no route to 192.0.2.77"),
        (WEB, "4194305", "", 2, "process 4194305 cannot be entered"),
        (WEB, "nobody", "", 2, "is no sender"),
        (WEB, "node", "index", 2, "begins with a slash"),
        (DNS, "node", "/", 2, "by TCP"),
        ("10.96.100.1:80/sctp", "node", "", 1, "not by SCTP"),
        ("10.96.100.1", "node", "", 2, "names no port"),
    ],
)
def test_what_cannot_be(
    target: str, sender: str, path: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(Wish(Asked(target, sender=sender), probe=True, path=path), ALONE) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("node")
def test_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(Wish(Asked(WEB, sender="10.244.21.11"), probe=True, path="/"), ALONE) == 0
    text = capsys.readouterr().out
    assert command.run(Wish(Asked(EMPTY, sender="node"), probe=True, as_json=True), ALONE) == 3
    (document,) = json.loads(capsys.readouterr().out)["probes"]

    assert [line.split("  ")[0] for line in text.splitlines() if line[0].isalpha() and "  " in line] == [
        "sent",
        "came in",
        "translated",
        "sent on",
        "this node",
        "sender got",
    ]
    assert max(map(len, text.splitlines())) <= 80
    assert document["answer"]["result"] == "refused"
    assert document["flow"]["outcome"] == "rejected"
    assert document["flow"]["backend"] is None
