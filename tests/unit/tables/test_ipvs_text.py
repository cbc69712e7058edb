"""The text of the IPVS tables, where a real kernel's state does not reach: large numbers, odd settings, engines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.types import Counters, Flag, Method, Settings, Virtual
from kpx.net import Family
from kpx.tables.ipvs import selection, text
from kpx.tables.ipvs.snapshot import Row
from kpx.tables.ipvs.text import View
from tests.unit.tables.values import SERVER, real, row, snapshot


def lines(*rows: Row, view: View = View.SERVERS, exact: bool = False) -> list[str]:
    """The lines after the titles."""
    return list(text.table(snapshot(*rows), view, exact=exact))[3:]


def test_the_titles_are_those_of_ipvsadm() -> None:
    assert list(text.table(snapshot(), View.SERVERS)) == [
        "IP Virtual Server version 1.2.1 (size=4096)",
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
    ]
    assert list(text.table(snapshot(selection=selection.parse("10.96.0.1")), View.RATE)) == [
        "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
        "  -> RemoteAddress:Port",
    ]


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "        0"),
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (999_999_999, "  999999K"),
        (1_000_000_000, "    1000M"),
        (99_999_999_999, "   99999M"),
        (100_000_000_000, "     100G"),
        (99_999_999_999_999, "   99999G"),
        (100_000_000_000_000, "     100T"),
        (2**64 - 1, "18446744T"),
    ],
)
def test_large_numbers_are_cut_short(number: int, shown: str) -> None:
    counters = Counters(bytes_out=number)
    stats = lines(row(counters=counters, reals=(real(counters=counters),)), view=View.STATS)
    assert stats == [
        f"TCP  10.96.0.1:80                        0        0        0        0{shown}",
        f"  -> 10.0.0.1:8080                       0        0        0        0{shown}",
    ]


@given(some.integers(0, 2**64 - 1))
def test_exact_numbers_keep_apart(number: int) -> None:
    (line,) = lines(row(counters=Counters(number, number, number, number, number)), view=View.STATS, exact=True)
    assert line[33:].split() == [str(number)] * 5
    assert len(line) >= 78


def test_packets_a_second_of_a_real_server_are_never_cut_short() -> None:
    many = 123_456_789
    counters = Counters(0, 0, 0, 0, 0, many, many, many, many, many)
    assert lines(row(counters=counters, reals=(real(counters=counters),)), view=View.RATE) == [
        "TCP  10.96.0.1:80                  123456K  123456K  123456K  123456K  123456K",
        "  -> 10.0.0.1:8080                123456789 123456789 123456789  123456K  123456K",
    ]


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (Settings("rr"), "rr"),
        (Settings("mh", Flag.SCHED1 | Flag.SCHED2), "mh (mh-fallback,mh-port)"),
        (Settings("sh", Flag.SCHED2 | Flag.ONE_PACKET), "sh (sh-port) ops"),
        (Settings("fo", Flag.SCHED2 | Flag.SCHED3), "fo (flag-2,flag-3)"),
        (Settings("rr", Flag.PERSISTENT, 10800), "rr persistent 10800"),
        (Settings("rr", Flag.PERSISTENT, 60, 20), "rr persistent 60 mask 255.255.240.0"),
        (Settings("rr", Flag.PERSISTENT, 60, mask="0.0.0.0"), "rr persistent 60 mask 0.0.0.0"),
        (Settings("rr", Flag.PERSISTENT | Flag.ONE_PACKET, 60, 0, "sip"), "rr persistent 60 pe sip ops"),
        (Settings("rr", 0, 60, 20, "sip"), "rr"),
    ],
)
def test_settings_are_shown(settings: Settings, shown: str) -> None:
    assert lines(row(SERVER, settings)) == [f"TCP  10.96.0.1:80 {shown}"]


def test_names_are_shown() -> None:
    named = [
        Virtual("10.96.0.1", 99, "SCTP"),
        Virtual("fd00::1", 53, "UDP"),
        Virtual("", 0, "", 5),
        Virtual("", 0, "", 2**31, Family.IPV6),
    ]
    assert lines(*map(row, named)) == [
        "SCTP 10.96.0.1:99 rr",
        "UDP  [fd00::1]:53 rr",
        "FWM  5 rr",
        "FWM  2147483648 IPv6 rr",
    ]
    assert lines(row(Virtual("fd00::1", 53, "UDP"), Settings("rr", Flag.PERSISTENT, 60, 64))) == [
        "UDP  [fd00::1]:53 rr persistent 60 mask 64"
    ]


@pytest.mark.parametrize(
    ("method", "shown"), [(0, "Masq"), (1, "Local"), (2, "Tunnel"), (3, "Route"), (0x103, "Route")]
)
def test_forwarding_is_shown(method: int, shown: str) -> None:
    assert (
        lines(row(reals=(real(method=method),)))[1]
        == f"  -> 10.0.0.1:8080                {shown:<7} 1      0          0         "
    )
    assert Method(method & 3).value == method & 3


def test_connections_are_shown() -> None:
    plain = Connection("TCP", "10.1.0.1", 40000, "10.96.0.1", 80, "10.0.0.1", 8080, "ESTABLISHED", 6000)
    wide = Connection("UDP", "fd00::1", 40000, "fd00::2", 53, "fd00::3", 5353, "UDP", 59)
    with_engine = Connection(
        "UDP", "10.1.0.1", 0, "10.96.0.1", 5060, "10.0.0.1", 5060, "NONE", 61, "sip", "a84b4c@pc33"
    )
    assert list(text.connections([plain, wide, with_engine])) == [
        "IPVS connection entries",
        "pro expire state       source             virtual            destination",
        "TCP 100:00 ESTABLISHED 10.1.0.1:40000     10.96.0.1:80       10.0.0.1:8080",
        "UDP 00:59  UDP         [fd00::1]:40000    [fd00::2]:53       [fd00::3]:5353",
        "UDP 01:01  NONE        10.1.0.1:0         10.96.0.1:5060     10.0.0.1:5060",
    ]
    assert list(text.connections([plain, with_engine], engines=True))[1:] == [
        "pro expire state       source             virtual            destination        pe name          pe_data",
        "TCP 100:00 ESTABLISHED 10.1.0.1:40000     10.96.0.1:80       10.0.0.1:8080",
        "UDP 01:01  NONE        10.1.0.1:0         10.96.0.1:5060     10.0.0.1:5060    sip                a84b4c@pc33",
    ]
