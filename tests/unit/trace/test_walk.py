"""The walk over rules of a made-up node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.kernel.ipset import Entry
from kpx.kernel.ipvs.types import Flag, Real, RealServer, Settings, Virtual, VirtualServer
from kpx.trace.packet import Packet
from kpx.trace.result import Sender, Trace, Verdict
from kpx.trace.target import Target
from kpx.trace.text import Style, render
from kpx.trace.tracing import trace
from tests.unit.trace.facts import NODE, MadeUp, Tables

CLIENT, SERVICE = "10.0.0.7", "10.96.0.1"


def traced(facts: MadeUp, *, proxies: tuple[str, ...] = (), to: str = SERVICE, **chains: list[str]) -> Trace:
    packet = Packet(CLIENT, to, 80, "tcp", "pod0")
    return trace(Target(to, 80), Sender("pod", CLIENT, "pod0"), packet, Tables(facts, **chains), facts, proxies)


def shares(found: Trace) -> dict[str, float | None]:
    return {branch.ending.destination: branch.share for branch in found.branches}


@given(st.integers(1, 40))
def test_every_backend_has_an_equal_share(count: int) -> None:
    last = f"-j DNAT --to-destination 10.1.0.{count}:80"
    drawn = [
        f"-m statistic --mode random --probability {1 / (count - at):.11f} -j DNAT --to-destination 10.1.0.{at + 1}:80"
        for at in range(count - 1)
    ]

    found = shares(traced(MadeUp(), nat__PREROUTING=[*drawn, last]))

    assert len(found) == count
    assert list(found.values()) == pytest.approx([1 / count] * count)


def test_marks_are_set_and_tested() -> None:
    found = traced(
        MadeUp(),
        mangle__PREROUTING=["-j MARK --set-xmark 0x4000/0x4000"],
        filter__FORWARD=["-m mark --mark 0x4000/0x4000 -j DROP"],
    )
    assert found.branches[0].ending.verdict is Verdict.DROPPED


def test_only_one_chain_translates() -> None:
    found = traced(
        MadeUp(),
        nat__PREROUTING=["-j A", "-j DNAT --to-destination 10.1.0.2:80"],
        nat__A=["-j DNAT --to-destination 10.1.0.1:80"],
    )
    assert shares(found) == {"10.1.0.1": 1.0}


def test_goto_comes_back_to_the_caller_of_the_chain() -> None:
    found = traced(
        MadeUp(),
        filter__FORWARD=["-j A", "-j REJECT"],
        filter__A=["-g B", "-j DROP"],
        filter__B=["-s 10.9.9.9/32 -j ACCEPT"],
    )
    assert found.branches[0].ending.verdict is Verdict.REJECTED


def test_what_is_not_evaluated_goes_both_ways() -> None:
    found = traced(MadeUp(), filter__FORWARD=["-m owner --uid-owner 0 -j DROP"])
    assert {(branch.ending.verdict, branch.unknown) for branch in found.branches} == {
        (Verdict.SENT, ()),
        (Verdict.DROPPED, ("-m owner --uid-owner 0",)),
    }
    assert not found.certain


def test_a_set_is_asked_for_the_packet() -> None:
    held = {"S": {Entry(SERVICE, "tcp", 80)}}
    rule = "-m set --match-set S dst,dst -j DROP"
    found = traced(MadeUp(ipsets=held, kinds={"S": "hash:ip,port"}), filter__FORWARD=[rule])
    assert found.branches[0].ending.verdict is Verdict.DROPPED


def test_nothing_listens() -> None:
    (branch,) = traced(MadeUp(), to=NODE).branches
    assert branch.ending.verdict is Verdict.REJECTED
    assert branch.ending.reason == "no process of this node listens on 192.0.2.1:80"


def served(scheduler: str, *weights: int, flags: int = 0) -> MadeUp:
    virtual = Virtual(SERVICE, 80, "TCP")
    reals = [RealServer(Real(f"10.1.0.{at + 1}", 8080), weight) for at, weight in enumerate(weights)]
    server = VirtualServer(virtual, Settings(scheduler, flags))
    return MadeUp(local=(NODE, SERVICE), servers={virtual: (server, reals)})


def test_ipvs_takes_turns_by_weight() -> None:
    assert shares(traced(served("wrr", 1, 3, 0), proxies=("ipvs",))) == {"10.1.0.1": 0.25, "10.1.0.2": 0.75}
    assert shares(traced(served("lc", 1, 1), proxies=("ipvs",))) == {"10.1.0.1": None, "10.1.0.2": None}


def test_ipvs_without_real_servers_rejects() -> None:
    (branch,) = traced(served("rr"), proxies=("ipvs",)).branches
    assert branch.ending.verdict is Verdict.REJECTED
    assert "no endpoints" in branch.ending.reason


def test_ipvs_remembers_clients() -> None:
    assert traced(served("rr", 1, 1, flags=Flag.PERSISTENT), proxies=("ipvs",)).affinity


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_text_keeps_within_its_columns(columns: int) -> None:
    comment = "words " * 20
    balance = "-m statistic --mode random --probability 0.5 -j DNAT --to-destination 1.2.3.4:80"
    chain = [f'-m comment --comment "{comment}" {balance}']
    found = traced(MadeUp(), nat__PREROUTING=chain, filter__FORWARD=["-m limit --limit 1/second -j DROP"])
    plain = render(found, Style(columns, every_hop=True))
    assert max(map(len, plain.splitlines())) <= columns
    assert "\x1b" not in plain
    assert "\x1b[" in render(found, Style(columns, colour=True))
