"""Tables as columns that fit any width, with their order and filter. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len, set_cell_size

T = TypeVar("T")

GAP = 2


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """A column: ``text`` is what a cell shows, ``key`` what it is sorted by (else the text).

    ``least`` and ``most`` bound its width. Where there is no room, columns of the highest ``rank`` go first.
    ``largest`` says that the largest come first when one sorts by it; ``mark`` names how a cell is painted.
    """

    title: str
    text: Callable[[T], str]
    least: int
    most: int = 0
    key: Callable[[T], Any] | None = None
    rank: int = 0
    right: bool = False
    largest: bool = False
    mark: Callable[[T], str] | None = None

    @property
    def sorted_by(self) -> Callable[[T], Any]:
        return self.key or self.text


@dataclass(frozen=True, slots=True)
class Order:
    """Which column rows are sorted by, by its title."""

    title: str
    descending: bool = False

    def moved(self, columns: Sequence[Column[Any]], step: int) -> Order:
        """The order by a neighbouring column."""
        titles = [column.title for column in columns]
        at = titles.index(self.title) if self.title in titles else 0
        chosen = columns[(at + step) % len(columns)]
        return Order(chosen.title, chosen.largest)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are shown: those in which a regular expression is found, or with ``!`` before it, those without."""

    text: str = ""

    def __post_init__(self) -> None:
        """Raises `re.error`."""
        try:
            re.compile(self._expression)
        except (OverflowError, RecursionError) as error:
            raise re.error(f"too much of it: {error}") from error

    @property
    def _expression(self) -> str:
        return self.text.removeprefix("!")

    def chosen(self, rows: Iterable[T], search: Callable[[T], str]) -> list[T]:
        """The rows that pass. Capital letters matter only where the expression has some."""
        expression = self._expression
        if not expression:
            return list(rows)
        found = re.compile(expression, re.IGNORECASE if expression.islower() else 0).search
        if self.text.startswith("!"):
            return [row for row in rows if not found(search(row))]
        return [row for row in rows if found(search(row))]


def ordered(rows: list[T], columns: Sequence[Column[T]], order: Order) -> list[T]:
    """The rows in order; those that are alike stay in the order that they have."""
    column = next((one for one in columns if order.title and one.title == order.title), None)
    return sorted(rows, key=column.sorted_by, reverse=order.descending) if column else rows


def fit(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """The columns that there is room for, with their widths; what is left over goes to those that lack little first."""
    shown = list(columns)
    while len(shown) > 1 and _least(shown) > width:
        highest = max(column.rank for column in shown)
        shown.remove(next(column for column in reversed(shown) if column.rank == highest))
    widths = [column.least for column in shown]
    spare = width - _least(shown)
    for at in sorted(range(len(shown)), key=lambda at: shown[at].most - shown[at].least):
        more = min(max(shown[at].most - shown[at].least, 0), max(spare, 0))
        widths[at] += more
        spare -= more
    return list(zip(shown, widths, strict=True))


def table_text(rows: Iterable[T], columns: Sequence[Column[T]]) -> str:
    """All rows under their titles, as plain text; columns are as wide as need be."""
    cells = [[column.title for column in columns]]
    cells += [[column.text(row) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{one:<{width}}" for one, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _least(columns: Sequence[Column[Any]]) -> int:
    return sum(column.least for column in columns) + GAP * (len(columns) - 1)


def cell(text: str, width: int, cut: str, *, right: bool = False) -> str:
    """A text that takes exactly `width` columns of a terminal; `cut` ends one that is longer."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else "?" for one in text)
    size = len(text) if text.isascii() else cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + cut if width > 0 else ""
    return " " * (width - size) + text if right else text + " " * (width - size)
