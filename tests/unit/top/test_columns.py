"""Tables as columns: what is dropped and cut where there is no room, order and filter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kpx.top import words
from kpx.top.columns import GAP, Column, Filter, Order, cell, fit, ordered, table_text

COLUMNS: list[Column[dict[str, object]]] = [
    Column("NAME", lambda one: str(one["name"]), 6, 20),
    Column("TYPE", lambda _: "x", 4, rank=2),
    Column("RATE", lambda one: f"{one['rate']}", 5, 0, lambda one: one["rate"], 1, True, True),
]
ROWS: list[dict[str, object]] = [{"name": "web", "rate": 9}, {"name": "dns", "rate": 10}, {"name": "Api", "rate": 0}]


def titles(width: int) -> list[tuple[str, int]]:
    return [(column.title, wide) for column, wide in fit(COLUMNS, width)]


def test_columns_of_the_highest_rank_go_first() -> None:
    assert titles(19) == [("NAME", 6), ("TYPE", 4), ("RATE", 5)]
    assert titles(18) == [("NAME", 11), ("RATE", 5)]
    assert titles(12) == [("NAME", 12)]
    assert titles(3) == [("NAME", 6)]


@given(st.integers(min_value=19, max_value=200))
def test_no_row_is_wider_than_the_terminal(width: int) -> None:
    shown = fit(COLUMNS, width)

    assert sum(wide for _, wide in shown) + GAP * (len(shown) - 1) <= width
    assert all(column.least <= wide <= max(column.most, column.least) for column, wide in shown)


@given(st.text(), st.integers(min_value=1, max_value=30), st.booleans())
def test_a_cell_is_as_wide_as_it_should_be_whatever_is_in_it(text: str, width: int, right: bool) -> None:
    made = cell(text, width, "~", right=right)

    assert cell_len(made) == width
    assert made.isprintable()


def test_a_rule_of_others_cannot_write_to_the_terminal() -> None:
    assert cell("\x1b[2Jgone\n", 10, "~") == "?[2Jgone? "


def test_order_by_any_column_and_back() -> None:
    assert [row["name"] for row in ordered(ROWS, COLUMNS, Order("RATE", descending=True))] == ["dns", "web", "Api"]
    assert [row["name"] for row in ordered(ROWS, COLUMNS, Order("NAME"))] == ["Api", "dns", "web"]
    assert ordered(ROWS, COLUMNS, Order("GONE")) == ROWS
    assert ordered(ROWS, [Column("", lambda one: str(one["name"]), 6)], Order("")) == ROWS


def test_the_next_column_is_sorted_as_its_numbers_make_sense() -> None:
    assert Order("TYPE").moved(COLUMNS, 1) == Order("RATE", descending=True)
    assert Order("RATE").moved(COLUMNS, 1) == Order("NAME")
    assert Order("NAME").moved(COLUMNS, -1) == Order("RATE", descending=True)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["web", "dns", "Api"]),
        ("w|d", ["web", "dns"]),
        ("!w|d", ["Api"]),
        ("api", ["Api"]),
        ("API", []),
        ("^.{3}$", ["web", "dns", "Api"]),
        ("!", ["web", "dns", "Api"]),
    ],
)
def test_filter(text: str, names: list[str]) -> None:
    assert [row["name"] for row in Filter(text).chosen(ROWS, lambda row: str(row["name"]))] == names


def test_a_filter_that_is_no_expression() -> None:
    with pytest.raises(re.error):
        Filter("a(")


def test_a_table_as_text() -> None:
    assert table_text(ROWS[:1], COLUMNS) == "NAME  TYPE  RATE\nweb   x     9"
    assert table_text([], COLUMNS) == "NAME  TYPE  RATE"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0.0ms"),
        (0.00994, "9.9ms"),
        (0.00996, "10ms"),
        (0.9996, "1.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (150.0, "2min"),
    ],
)
def test_what_work_took_has_two_digits(seconds: float, told: str) -> None:
    assert words.took(seconds) == told


@pytest.mark.parametrize("text", ["a{4294967295}", "(" * 3000, "("])
def test_what_is_no_regular_expression(text: str) -> None:
    with pytest.raises(re.error):
        Filter(text)
