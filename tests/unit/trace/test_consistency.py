"""What is read is one single state of the rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpx.trace.reading.kernel import CannotTrace, consistent


def states(*numbers: int) -> Iterator[int]:
    yield from numbers


def test_what_changes_meanwhile_is_read_again() -> None:
    seen = states(1, 2, 2)
    read = states(10, 20)
    assert consistent(lambda: next(read), lambda: next(seen)) == 20


def test_an_error_of_a_state_that_has_gone_is_no_error() -> None:
    seen = states(1, 2, 2)
    results = iter([KeyError("gone"), None])

    def read() -> str:
        if (error := next(results)) is not None:
            raise error
        return "whole"

    assert consistent(read, lambda: next(seen)) == "whole"


def test_an_error_of_a_state_that_stays_is_told() -> None:
    def read() -> str:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        consistent(read, lambda: 1)


def test_rules_that_never_hold_still() -> None:
    numbers = iter(range(100))
    with pytest.raises(CannotTrace, match="changed during each"):
        consistent(lambda: "mixed", lambda: next(numbers))
