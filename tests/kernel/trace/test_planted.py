"""What others put in the way of a Service is named: its table, its chain and its rule."""

from __future__ import annotations

import json

import pytest

from kpx.lab import Lab, namespaces
from kpx.net import Family
from kpx.tools.cluster import Options
from kpx.trace import command
from kpx.trace.command import Wish
from kpx.trace.questions import Asked
from kpx.trace.reading.kernel import CannotTrace, trace_here
from kpx.trace.result import Result, Trace, Verdict
from kpx.trace.target import parse_target
from tests.packets.fixtures import Planting
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant

WEB = "10.96.100.1:80"
POD = "10.244.21.11"
STOCK = [pytest.param(one, id=one.name) for one in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)]
IPTABLES = STOCK[:2]


def traced(target: str = WEB, sender: str = POD) -> Trace:
    return trace_here(parse_target(target), sender)


def run(text: str, sender: str, *, as_json: bool = False) -> int:
    """`kpx trace` without anybody who tells what is wanted."""
    return command.run(Wish(Asked(text, sender=sender), as_json), Options(kernel_only=True))


def reasons(trace: Trace) -> set[str]:
    return {branch.ending.reason for branch in trace.branches}


def verdicts(trace: Trace) -> set[Verdict]:
    return {branch.ending.verdict for branch in trace.branches}


@pytest.mark.parametrize("variant", STOCK)
def test_a_drop_in_a_table_of_nftables(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    node.run("nft", "add table inet filter; add chain inet filter forward { type filter hook forward priority 0; }")
    node.run("nft", "add rule inet filter forward ip daddr 10.244.22.0/24 tcp dport 8080 counter drop")

    by_backend = {branch.ending.destination: branch.ending for branch in traced().branches}

    assert by_backend["10.244.21.10"].verdict is Verdict.SENT
    dropped = by_backend["10.244.22.10"]
    assert dropped.verdict is Verdict.DROPPED
    rule = "meta nfproto ipv4 ip daddr 10.244.22.0/24 meta l4proto tcp th dport 8080 drop"
    assert dropped.reason == f"by rule '{rule}' of table inet filter, chain forward, which is not kube-proxy's"


@pytest.mark.parametrize("variant", STOCK)
def test_a_policy_that_drops(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    node.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 10; policy drop; }")

    trace = traced()

    assert verdicts(trace) == {Verdict.DROPPED}
    assert reasons(trace) == {"by the policy of table inet fw, chain pass, which is not kube-proxy's"}


@pytest.mark.parametrize("variant", IPTABLES)
def test_a_reject_in_iptables(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    node.run(variant.iptables(Family.IPV4), *["-I", "FORWARD", "-s", "10.244.21.11/32", "-j", "REJECT"])

    trace = traced()

    assert verdicts(trace) == {Verdict.REJECTED}
    (reason,) = reasons(trace)
    assert reason.startswith("by rule '-s 10.244.21.11/32 -j REJECT --reject-with icmp-port-unreachable'")
    assert reason.endswith("of table filter, chain FORWARD, which is not kube-proxy's")


@pytest.mark.parametrize("variant", IPTABLES)
def test_a_translation_before_the_proxys(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    rule = "-t nat -I PREROUTING -d 10.96.100.1/32 -p tcp --dport 80 -j DNAT --to-destination 10.244.22.19:8080"
    node.run(variant.iptables(Family.IPV4), *rule.split())

    (branch,) = traced().branches

    assert (branch.ending.destination, branch.ending.port) == ("10.244.22.19", 8080)


@pytest.mark.parametrize("variant", STOCK)
def test_a_translation_of_nftables_before_the_proxys(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    node.run("nft", "add table ip early; add chain ip early pre { type nat hook prerouting priority -101; }")
    node.run("nft", "add rule ip early pre ip daddr 10.96.100.1 tcp dport 80 dnat to 10.244.22.19:8080")

    (branch,) = traced().branches

    assert (branch.ending.destination, branch.ending.port) == ("10.244.22.19", 8080)


@pytest.mark.parametrize("variant", IPTABLES)
def test_a_rule_that_is_gone(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    program = variant.iptables(Family.IPV4)
    lines = node.run(program, "-t", "nat", "-S", "KUBE-SERVICES").splitlines()
    (number,) = (number for number, line in enumerate(lines) if "-d 10.96.100.1/32 " in line)
    node.run(program, "-t", "nat", "-D", "KUBE-SERVICES", str(number))

    trace = traced()
    (branch,) = trace.branches

    assert branch.ending.verdict is Verdict.SENT
    assert not branch.ending.translated


def test_an_element_that_is_gone(planted: Planting) -> None:
    node = planted(NFTABLES)
    node.run("nft", "delete element ip kube-proxy service-ips { 10.96.100.1 . tcp . 80 }")

    trace = traced()

    # What no Service serves at a ClusterIP is rejected, as nobody said that this port is gone.
    assert verdicts(trace) == {Verdict.REJECTED}
    assert reasons(trace) == {"the address is a Service's, but the Service has no such port"}


@pytest.mark.parametrize("variant", IPTABLES)
def test_what_is_not_evaluated_is_followed_both_ways(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    node.run(variant.iptables(Family.IPV4), *["-I", "FORWARD", "-m", "limit", "--limit", "5/second", "-j", "DROP"])

    trace = traced()

    assert not trace.certain
    assert {(bool(branch.unknown), branch.ending.verdict) for branch in trace.branches} == {
        (False, Verdict.SENT),
        (True, Verdict.DROPPED),
    }


@pytest.mark.parametrize("variant", IPTABLES)
def test_what_is_not_evaluated_and_changes_nothing_is_no_doubt(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    node.run(variant.iptables(Family.IPV4), *["-I", "FORWARD", "-m", "limit", "--limit", "5/second", "-j", "ACCEPT"])

    trace = traced()

    assert trace.certain
    hops = [hop for branch in trace.branches for hop in (*trace.hops, *branch.hops)]
    assert any(hop.result is Result.UNKNOWN for hop in hops)


@pytest.mark.parametrize("variant", STOCK)
def test_reading_changes_nothing(planted: Planting, variant: Variant) -> None:
    node = planted(variant)
    legacy = "/proc/thread-self/net/ip_tables_names"
    before = node.run("nft", "list", "ruleset"), node.run("cat", legacy)

    traced()

    assert (node.run("nft", "list", "ruleset"), node.run("cat", legacy)) == before


def test_a_node_without_a_proxy(scenario_lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with namespaces.entered(Node(scenario_lab).namespace):
        with pytest.raises(CannotTrace, match="no rules of a service proxy here"):
            traced()
        assert run(WEB, "node") == 1
    assert "no rules of a service proxy here" in capsys.readouterr().err


@pytest.mark.parametrize("variant", STOCK)
def test_as_json(planted: Planting, variant: Variant, capsys: pytest.CaptureFixture[str]) -> None:
    planted(variant)

    assert run(WEB, "external", as_json=True) == 0
    document = json.loads(capsys.readouterr().out)

    assert (document["apiVersion"], document["source"]) == ("kpx/v1", "none")
    (trace,) = document["traces"]
    assert [branch["share"] for branch in trace["branches"]] == [0.5, 0.5]
    assert {branch["ending"]["source"] for branch in trace["branches"]} == {"10.199.0.21"}
    assert {branch["ending"]["destination"] for branch in trace["branches"]} == {"10.244.21.10", "10.244.22.10"}


@pytest.mark.parametrize("variant", STOCK)
def test_as_text(planted: Planting, variant: Variant, capsys: pytest.CaptureFixture[str]) -> None:
    planted(variant)

    assert run("10.96.100.7:80", POD) == 3
    text = capsys.readouterr().out

    assert "=> REJECTED: the Service has no endpoints" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text


def test_affinity_is_told(planted: Planting) -> None:
    planted(IPTABLES_NFT)

    trace = traced("10.96.100.5:80")

    assert trace.affinity
    assert [branch.share for branch in trace.branches] == [0.5, 0.5]


def test_a_pod_is_found(planted: Planting) -> None:
    planted(IPTABLES_NFT)

    trace = traced(sender="pod")

    assert trace.sender.kind == "pod"
    assert trace.sender.interface.startswith("pod-a")
    assert trace.sender.address not in {branch.ending.destination for branch in trace.branches}
