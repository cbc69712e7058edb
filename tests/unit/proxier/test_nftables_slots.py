"""Lists of endpoints in slots: dense, stable, and fair to a thousandth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.proxier.nftables.slots import attempts, capacity, settle

endpoint = st.integers(0, 12).map(lambda number: bytes([number]))
wanted = st.lists(endpoint, unique=True, max_size=10)


@given(st.lists(st.one_of(endpoint, st.none()), max_size=12), wanted)
def test_any_list_becomes_the_wanted_one_without_holes(held: list[bytes | None], wanted: list[bytes]) -> None:
    order = settle(held, wanted)

    assert sorted(order) == sorted(wanted)


@given(wanted, wanted)
def test_no_more_slots_change_than_must(held: list[bytes], wanted: list[bytes]) -> None:
    order = settle(held, wanted)

    changed = sum(before != after for before, after in zip(held, order, strict=False))
    gone, come = len(set(held) - set(wanted)), len(set(wanted) - set(held))
    assert changed <= min(gone, len(order))
    assert len(order) - len(held) == come - gone


def test_newcomers_take_the_slots_of_those_who_leave_and_the_last_moves_into_a_hole() -> None:
    assert settle([b"a", b"b", b"c"], [b"a", b"c", b"d"]) == [b"a", b"d", b"c"]
    assert settle([b"a", b"b", b"c"], [b"b", b"c"]) == [b"c", b"b"]
    assert settle([], [b"a", b"b"]) == [b"a", b"b"]


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024)])
def test_a_capacity_is_the_next_power_of_two(count: int, size: int) -> None:
    assert capacity(count) == size


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 64, 1024, 32768])
def test_the_first_slot_is_drawn_hardly_more_often_than_the_others(size: int) -> None:
    for count in {size // 2 + 1, (3 * size + 3) // 4, size}:
        missed = ((size - count) / size) ** attempts(size)
        fair = 1 / count
        drawn = (1 - missed) * fair + missed
        assert drawn <= fair * 1.001
