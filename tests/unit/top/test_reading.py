"""What is made of two readings, of the flows, and of a kube-proxy's metrics."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from kpx.kernel.conntrack import Counters as FlowCounters
from kpx.kernel.conntrack import Flow, Tuple
from kpx.kernel.nft.elements import Element, parse_counters, parse_elements, render_elements
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.sysctl import SysctlError
from kpx.tools.cluster import Options
from kpx.tools.flows import Owners
from kpx.top.pace import Pace
from kpx.top.reading.counters import compare, refreshed
from kpx.top.reading.flows import sum_up
from kpx.top.reading.node import NodeReader, told
from kpx.top.reading.path import counters, questions_of
from kpx.top.reading.proxier import stock_syncs
from kpx.top.snapshot import StockSyncs
from tests.unit.top.canned import AFTER, BEFORE, DNS, EMPTY, FRONT, PORTS, TRACE, WEB

METRICS = Path(__file__).parents[2] / "fixtures" / "kube-proxy-1.36" / "metrics-iptables.txt"


def test_rates_are_what_came_between_two_readings() -> None:
    counted = compare(BEFORE, AFTER, 2.0)

    assert counted.rates == {WEB: 2.5, FRONT: 181.0}
    assert counted.endpoint_rates[WEB] == {("10.244.21.10", 8080): 1.0, ("10.244.21.30", 8080): 1.5}
    assert counted.totals[WEB] == 815
    assert counted.totals[EMPTY] == 0


def test_the_first_reading_has_no_rates() -> None:
    counted = compare(None, BEFORE, 2.0)

    assert (counted.rates, counted.every, counted.totals[DNS]) == ({}, 0.0, 21)


def test_a_sum_that_fell_tells_nothing_of_what_came() -> None:
    """One of the addresses that it was counted for is gone, or the rules were written anew."""
    first, second = ("10.244.21.10", 8080), ("10.244.21.30", 8080)

    counted = compare({WEB: {first: 400, second: 10}}, {WEB: {first: 300, second: 12}}, 1.0)

    assert (counted.rates, counted.endpoint_rates, counted.totals) == ({WEB: 2.0}, {WEB: {second: 2.0}}, {WEB: 312})


def test_the_failures_of_a_proxier_count_from_when_it_is_watched() -> None:
    reader = NodeReader(Options())

    def watched(failures: int) -> int:
        stock = reader._watched(StockSyncs("v1.36.2", 0.0, 0.0, 9, 0.1, failures))
        assert stock is not None
        reader._last = replace(reader._last, stock=stock)
        return stock.new_failures

    assert [watched(failures) for failures in (5, 5, 7, 1, 2)] == [0, 0, 2, 0, 1]


def flow(address: str, port: int, backend: str, protocol: int = 6, octets: int = 0) -> Flow:
    original = Tuple(protocol, "10.244.21.11", 40000, address, port)
    reply = Tuple(protocol, backend, 8080, "10.244.21.11", 40000)
    counted = FlowCounters(1, octets) if octets else None
    return Flow(original, reply, 1, b"", sent=counted, received=counted)


def test_flows_belong_to_the_service_they_were_sent_to() -> None:
    found = sum_up(
        [
            flow("10.96.100.1", 80, "10.244.21.10", octets=500),
            flow("10.96.100.1", 80, "10.244.21.30"),
            flow("10.199.0.21", 30443, "10.244.21.31"),
            flow("192.0.2.99", 80, "192.0.2.99"),
        ],
        Owners(PORTS, {"10.199.0.21"}),
        WEB,
        1,
    )

    assert found.whole == 4
    assert {port: one.flows for port, one in found.by_service.items()} == {WEB: 2, FRONT: 1}
    assert found.by_service[WEB].octets == 1000
    assert found.by_service[FRONT].octets is None
    assert found.by_service[WEB].backends == {("10.244.21.10", 8080): 1, ("10.244.21.30", 8080): 1}
    assert (found.listed, len(found.sample)) == (WEB, 1)


def test_what_a_kube_proxy_tells_of_its_syncs() -> None:
    found = stock_syncs(METRICS.read_text())

    assert found is not None
    assert (found.syncs, found.failures) == (2, 0)
    assert found.mean_seconds == pytest.approx((0.170984293 + 0.228153149) / 2)
    assert found.last > 1_700_000_000
    assert stock_syncs("go_gc_duration_seconds 1\n") is None


def test_a_reading_that_takes_much_is_made_less_often() -> None:
    pace = Pace(0.05, 1.0)
    assert pace.due(100.0)

    pace.done(100.0, 0.01)
    assert (pace.due(100.9), pace.due(101.0)) == (False, True)

    pace.done(101.0, 0.2)
    assert (pace.due(104.9), pace.due(105.0)) == (False, True)

    pace.done(105.0, 60.0)
    pace.at_once()
    assert pace.due(105.0)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SysctlError(errno.ENOENT, "cannot read x"), "nf_conntrack is not loaded"),
        (PermissionError(errno.EPERM, "no"), "run it with sudo"),
        (OSError(errno.EIO, "broken"), "broken"),
    ],
)
def test_a_failure_is_told_with_its_remedy(error: OSError, text: str) -> None:
    assert text in told(error)


def test_the_addresses_that_can_be_traced() -> None:
    ports = [(family, one) for family, one in PORTS if one.port == FRONT]

    assert [str(one.target) for one in questions_of(ports)] == [
        "10.96.100.3:443/tcp",
        "192.0.2.10:443/tcp",
        "nodeport/30443/tcp",
    ]


def test_every_rule_of_a_path_is_counted() -> None:
    assert dict(counters(TRACE))["nat", "KUBE-SEP-AAAAAAAAAAAAAAAA", TRACE.branches[0].hops[0].rule] == 402
    assert len(list(counters(replace(TRACE, branches=())))) == 2


ELEMENTS = [
    Element(b"\x0a\x60\x00\x01" + bytes(12), bytes([10, 244, 21, 10, 31, 144, 0, 0]), "shop/web", Counter(7, 420)),
    Element(b"\x0a\x60\x00\x02" + bytes(12), bytes([10, 244, 21, 11, 31, 144, 0, 0]), "", Counter(8, 480)),
    Element(b"\x0a\x60\x00\x03" + bytes(12), bytes([10, 244, 21, 12, 31, 144, 0, 0]), "longer", Counter(9, 0)),
]
UNCOUNTED = Element(b"\x0a\x60\x00\x04" + bytes(12), bytes([10, 244, 21, 13, 31, 144, 0, 0]))


@pytest.mark.parametrize("elements", [ELEMENTS, [UNCOUNTED, *ELEMENTS], [*ELEMENTS, UNCOUNTED], [UNCOUNTED], []])
def test_counters_are_read_as_whole_elements_are(elements: list[Element]) -> None:
    data = b"".join(render_elements(elements))

    assert list(parse_counters(data)) == [
        (one.key, one.data, one.counter.packets if one.counter else 0) for one in parse_elements(data)
    ]


def test_those_in_sight_are_counted_more_often_than_all() -> None:
    counted = compare(BEFORE, AFTER, 10.0)
    seen = refreshed(counted, {WEB: {("10.244.21.10", 8080): 410, ("10.244.21.30", 8080): 413}}, {WEB: 2.0})

    assert seen.rates == {WEB: 4.0, FRONT: 36.2}
    assert (seen.totals[WEB], seen.totals[FRONT]) == (823, counted.totals[FRONT])
    assert refreshed(seen, {WEB: seen.counts[WEB]}, {WEB: 2.0}).rates == {FRONT: 36.2}

    after = {**seen.counts, WEB: {("10.244.21.10", 8080): 411, ("10.244.21.30", 8080): 413}}
    assert compare(seen.counts, after, 10.0, {WEB: 0.5}).rates == {WEB: 2.0}
