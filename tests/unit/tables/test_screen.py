"""Lines that are drawn again in one place."""

from __future__ import annotations

import io

import pytest

from kpx.tables import screen
from kpx.tables.screen import Screen, fit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_fits_is_left_alone() -> None:
    assert fit(["a", "bc"], 2, 2) == ["a", "bc"]


def test_what_does_not_fit_is_cut_and_told() -> None:
    assert fit(["abc", *map(str, range(2000))], 30, 3) == ["abc", "0", "... 1,999 more lines"]
    assert fit(["abcdef"], 3, 3) == ["abc"]


def test_a_terminal_is_cleared_once_and_then_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen.shutil, "get_terminal_size", lambda: (3, 3))
    terminal = Terminal()
    shown = Screen(terminal)
    assert shown.rows == 2
    shown.draw(["abcd", "e"])
    shown.draw(["f"])
    assert terminal.getvalue() == "\x1b[2J\x1b[Habc\x1b[K\ne\x1b[K\n\x1b[J\x1b[Hf\x1b[K\n\x1b[J"


def test_a_file_gets_whole_tables_apart_from_each_other() -> None:
    file = io.StringIO()
    shown = Screen(file)
    assert shown.rows is None
    shown.draw(["a" * 200])
    shown.draw(["b"])
    assert file.getvalue() == "a" * 200 + "\n\nb\n"
