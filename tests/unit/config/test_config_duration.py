from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.config.duration import Duration

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds", "written"),
    [
        ("0", 0, "0s"),
        ("0s", 0, "0s"),
        ("30s", 30 * SECOND, "30s"),
        ("90s", 90 * SECOND, "1m30s"),
        ("1m0s", 60 * SECOND, "1m0s"),
        ("15m", 900 * SECOND, "15m0s"),
        ("24h", 86400 * SECOND, "24h0m0s"),
        ("2h22m", 8520 * SECOND, "2h22m0s"),
        ("1.5h", 5400 * SECOND, "1h30m0s"),
        (".5s", SECOND // 2, "500ms"),
        ("5.s", 5 * SECOND, "5s"),
        ("1.25s", 1_250_000_000, "1.25s"),
        ("100ms", 100_000_000, "100ms"),
        ("1h1ns", 3600 * SECOND + 1, "1h0m0.000000001s"),
        ("12us", 12_000, "12µs"),
        ("12\N{GREEK SMALL LETTER MU}s", 12_000, "12µs"),
        ("7ns", 7, "7ns"),
        ("-1m", -60 * SECOND, "-1m0s"),
        ("+1m", 60 * SECOND, "1m0s"),
    ],
)
def test_forms(text: str, nanoseconds: int, written: str) -> None:
    assert Duration.parse(text) == Duration(nanoseconds)
    assert str(Duration(nanoseconds)) == written


@pytest.mark.parametrize(
    "text", ["", "30", "s", ".s", "-", "1 s", "1s ", "1S", "1d", "one", "1h-1m", "2562048h", "--1s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@given(st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1))
def test_text_and_value_are_one(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))) == Duration(nanoseconds)


def test_seconds_and_truth() -> None:
    assert Duration.parse("1500ms").seconds == 1.5
    assert Duration.parse("1ns")
    assert not Duration()
    assert Duration.parse("1s") < Duration.parse("1m")
