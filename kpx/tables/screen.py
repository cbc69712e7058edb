"""Lines that are drawn again and again in one place of a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

_HOME = "\x1b[H"
_CLEAR = "\x1b[2J"
_TO_LINE_END = "\x1b[K"
_TO_SCREEN_END = "\x1b[J"


class Screen:
    """A terminal, drawn over in place; anything else gets the lines one table after another."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._in_place = output.isatty()
        self._drawn = False

    @property
    def rows(self) -> int | None:
        """How many lines fit, or None if any number does."""
        return self._size()[1] if self._in_place else None

    def draw(self, lines: Sequence[str]) -> None:
        if self._in_place:
            start = _HOME if self._drawn else _CLEAR + _HOME
            fitted = fit(lines, *self._size())
            self._output.write(start + "\n".join(line + _TO_LINE_END for line in fitted) + "\n" + _TO_SCREEN_END)
        else:
            self._output.write(("\n" if self._drawn else "") + "".join(f"{line}\n" for line in lines))
        self._output.flush()
        self._drawn = True

    def _size(self) -> tuple[int, int]:
        """Columns and lines; the cursor rests on one line more."""
        columns, rows = shutil.get_terminal_size()
        return columns, rows - 1


def fit(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """The lines that fit, cut at the right; the last tells how many do not."""
    if len(lines) > rows:
        hidden = len(lines) - rows + 1
        lines = [*lines[: rows - 1], f"... {hidden:,} more lines"]
    return [line[:columns] for line in lines]
