"""What needs attention is said first."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from kpx.top.glyphs import ASCII, UNICODE, gauge, sparkline
from kpx.top.lines import plain
from kpx.top.pages import summary
from kpx.top.snapshot import Syncs, Table
from tests.unit.top.canned import SYNCS, USAGE, snapshot


def told(**usage: object) -> list[tuple[str, str]]:
    quiet = replace(snapshot(), syncs=None)
    changed = msgspec.structs.replace(USAGE, seconds_to_full=None, **usage)
    return [tuple(one) for one in summary.alarms(replace(quiet, table=Table(changed, (1,))))]


def test_a_table_that_is_full_or_will_be_soon() -> None:
    assert told() == []
    assert told(entries=210_000) == [("warn", "conntrack 80% full")]
    assert told(entries=262_000) == [("bad", "conntrack 100% full")]
    soon = msgspec.structs.replace(USAGE, seconds_to_full=600.0)
    assert [one.text for one in summary.alarms(replace(snapshot(), syncs=None, table=Table(soon, ())))] == [
        "conntrack full in 10min"
    ]


def test_drops_that_happen_now() -> None:
    assert told(statistics_per_second={"drop": 4.0, "insert_failed": 0.0}) == [("bad", "conntrack drops 4.0/s")]


def test_syncs_that_fail_and_changes_by_others() -> None:
    assert [tuple(one) for one in summary.alarms(snapshot())] == [
        ("bad", "IPv6 sync fails"),
        ("warn", "rules changed by others"),
    ]
    hours_later = replace(snapshot(), wall=snapshot().wall + 7200, syncs=Syncs(syncs=SYNCS.syncs))
    assert summary.alarms(hours_later) == []


def test_a_change_that_waits() -> None:
    state = msgspec.structs.replace(SYNCS.families[0], pending_since="2023-11-14T22:12:50Z")

    assert [one.text for one in summary.alarms(replace(snapshot(), syncs=Syncs((state,))))] == ["IPv4 changes wait 30s"]


def test_alarms_are_said_whatever_the_width() -> None:
    for width in (60, 80, 120):
        lines = plain(summary.head(snapshot(), width, UNICODE)).splitlines()
        assert "IPv6 sync fails" in lines[1]
        assert all(len(line) <= width for line in lines)


def test_signs() -> None:
    assert gauge(0.0, 4, ASCII) == "...."
    assert gauge(0.001, 4, ASCII) == "#..."
    assert gauge(2.0, 4, ASCII) == "####"
    assert sparkline([0, 1, 2], 2, UNICODE) == "▅█"
    assert sparkline([0, 0], 2, ASCII) == "__"
    assert sparkline([], 2, ASCII) == ""
