"""What a run says of what happened: each expectation can fail, and the text tells how."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kpx.lab import Lab
from kpx.lab.requests import Outcome, Reply
from kpx.lab.topology import Topology
from kpx.net import Family
from tests.packets.node import IPTABLES_NFT, NFTABLES, Node
from tests.packets.proxies import StockRules
from tests.packets.runner import PATIENCE_SECONDS, Run, times
from tests.packets.scenario import Case, Send

LAB = Lab("unit", "iptables", Topology((10, 11), (10,)), Path(), Path(), (), ())
A10 = Reply(Outcome.ANSWERED, "a10", "10.244.21.11", 5000, 5000)
B10 = Reply(Outcome.ANSWERED, "b10", "10.199.0.21", 6000, 5000)
REFUSED, TIMEOUT = Reply(Outcome.REFUSED), Reply(Outcome.TIMEOUT)


def send(**keys: Any) -> Send:
    return msgspec.convert({"from": "a11", "to": "tcp://10.96.100.1:80", **keys}, Send)


def run() -> Run:
    case = Case("case", Family.IPV4, [], {}, ())
    return Run(case, IPTABLES_NFT, LAB, StockRules(Node(LAB), NFTABLES, Family.IPV4), PATIENCE_SECONDS)


def difference(expected: Send, replies: Sequence[Reply]) -> str | None:
    return run().difference(expected, list(replies))


@pytest.mark.parametrize(
    ("expected", "replies"),
    [
        (send(answers=["a10", "b10"]), [A10, B10, A10]),
        (send(answers=["a10"], sees="a11", port="kept"), [A10]),
        (send(answers=["b10"], sees="node", port="changed"), [B10]),
        (send(answers=["a10", "b10"], sees={"a10": "a11", "b10": "10.199.0.21"}), [A10, B10]),
        (send(fails="refused"), [REFUSED, REFUSED]),
        (send(fails="timeout"), [TIMEOUT]),
    ],
)
def test_what_is_expected_is_no_difference(expected: Send, replies: Sequence[Reply]) -> None:
    assert difference(expected, replies) is None


@pytest.mark.parametrize(
    ("expected", "replies", "told"),
    [
        (send(answers=["a10", "b10"]), [A10, A10], "answers of exactly a10, b10"),
        (send(answers=["a10"]), [A10, B10], "answers of exactly a10"),
        (send(answers=["a10"]), [A10, TIMEOUT], "happened 1x: timeout"),
        (send(answers=["a10"], sees="node"), [A10], "sees a11 (10.244.21.11)"),
        (send(answers=["b10"], sees={"b10": "a11"}), [B10], "expected that b10 sees a11"),
        (send(answers=["a10"], port="changed"), [A10], "source port to be changed"),
        (send(answers=["b10"], port="kept"), [B10], "source port to be kept"),
        (send(fails="refused"), [REFUSED, TIMEOUT], "all 2 requests to be refused"),
        (send(fails="timeout"), [A10], "a10 answers"),
    ],
)
def test_anything_else_is_told(expected: Send, replies: Sequence[Reply], told: str) -> None:
    said = difference(expected, replies)

    assert said is not None
    assert "a11 -> tcp://10.96.100.1:80" in said
    assert told in said


def test_each_client_must_stay_with_its_pod() -> None:
    first = send(answers=["a10", "b10"], sticky="yes", sources=2)
    again = send(answers=["a10", "b10"], sticky="kept", sources=2)
    forgotten = send(answers=["a10", "b10"], sticky="forgotten", sources=2)

    assert "one pod for each client" in (difference(first, [A10, B10, B10, A10]) or "")
    one = run()
    assert one.difference(first, [A10, B10, A10, B10]) is None
    assert one.difference(again, [A10, B10]) is None
    assert "not all clients have the same" in (one.difference(forgotten, [A10, B10]) or "")
    assert "the same pods as before" in (one.difference(again, [B10, A10]) or "")
    assert one.difference(forgotten, [A10, B10]) is None


def test_everyone_who_should_answer_is_met() -> None:
    assert times(send(answers=["a10"])) < times(send(answers=["a10", "b10"])) < times(send(answers=["a", "b", "c"]))
    assert times(send(answers=["a10", "b10"])) >= 24  # 2 x (1/2)^24 is about 1e-7
    assert times(send(answers=["a10", "b10"], times=5)) == 5
