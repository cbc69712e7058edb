"""A screen whose body is a table: sorted by any column, filtered by a regular expression."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from kpx.top.columns import Column, Filter, Order, ordered
from kpx.top.lines import Line
from kpx.top.screens.view import View
from kpx.top.snapshot import Snapshot
from kpx.top.widgets.drawn import Drawn
from kpx.top.widgets.table import Table

T = TypeVar("T")


class TableView(View, Generic[T]):
    """A screen with a table of rows, and perhaps some lines above it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="enter"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("less_than_sign", "sort(-1)", "Sort", key_display="<>"),
        Binding("greater_than_sign", "sort(1)", "Sort", key_display="<>", show=False),
        Binding("r", "reverse", "Reverse"),
    ]

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order
        self.filter = Filter()

    def columns(self, found: Snapshot) -> Sequence[Column[T]]:
        """The columns, all that there are."""
        raise NotImplementedError

    def rows(self, found: Snapshot) -> Iterable[T]:
        """The rows, in the order in which those stay that are alike."""
        raise NotImplementedError

    def identity(self, row: T) -> Hashable:
        """What tells a row from others, whatever its numbers are."""
        raise NotImplementedError

    def search(self, row: T) -> str:
        """What the filter searches."""
        raise NotImplementedError

    def above(self, found: Snapshot, width: int) -> Sequence[Line]:
        """The lines above the table."""
        return ()

    def open(self, row: T) -> None:
        """Go into a row."""

    def body(self) -> Iterable[Widget]:
        yield Drawn(self.top.glyphs, id="above")
        yield Table[Any](self.top.glyphs, self.identity, id="table")
        yield Input(id="filter", placeholder="regular expression; !expression for those without it", compact=True)

    @property
    def table(self) -> Table[T]:
        return self.query_one("#table", Table)

    @property
    def _input(self) -> Input:
        return self.query_one("#filter", Input)

    def fill(self, found: Snapshot) -> None:
        columns = self.columns(found)
        rows = self.filter.chosen(self.rows(found), self.search)
        self.query_one("#above", Drawn).show(self.above(found, self.size.width))
        self.table.fill(ordered(rows, columns, self.order), columns, self.order)

    def status(self) -> str:
        chosen = f"/{self.filter.text}/" if self.filter.text else ""
        sign = self.top.glyphs.falling if self.order.descending else self.top.glyphs.rising
        order = f"by {self.order.title} {sign}" if self.order.title else ""
        return "  ".join(filter(None, (chosen, order, self.table.place)))

    def text(self) -> str:
        return self.table.text()

    def row_text(self) -> str:
        return self.table.row_text()

    # What the keys do.

    def action_open(self) -> None:
        row = self.table.current
        if row is not None:
            self.open(row)

    def on_table_opened(self) -> None:
        self.action_open()

    def action_sort(self, step: int) -> None:
        self.order = self.order.moved(self.columns(self.top.shown), step)
        self.draw()

    def action_reverse(self) -> None:
        self.order = Order(self.order.title, not self.order.descending)
        self.draw()

    def action_filter(self) -> None:
        self._input.display = True
        self._input.value = self.filter.text
        self._input.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        try:
            self.filter = Filter(event.value)
        except re.error as error:
            self.top.say(f"no regular expression: {error}")
        else:
            self.top.say("")
        self.draw()

    def on_input_submitted(self) -> None:
        self._close_input()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The way back begins with the filter."""
        return True if action == "back" and self.filter.text else super().check_action(action, parameters)

    def action_back(self) -> None:
        if self._input.display or self.filter.text:
            self._input.value = ""
            self.filter = Filter()
            self._close_input()
        else:
            super().action_back()

    def _close_input(self) -> None:
        self._input.display = False
        self.table.focus()
        self.draw()
