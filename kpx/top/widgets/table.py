"""A table of any number of rows, of which only those that are seen are drawn.

Textual's own DataTable takes a second to update 5,000 rows, in which nothing else happens; this one some milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from kpx.top.columns import GAP, Column, Order, cell, fit, table_text
from kpx.top.glyphs import Glyphs
from kpx.top.lines import Line, Span
from kpx.top.widgets.drawn import Drawn

T = TypeVar("T")

_WHEEL_ROWS = 3


class Table(Drawn, Generic[T], can_focus=True):
    """Rows under titles, with a cursor that stays on its row wherever that goes."""

    DEFAULT_CSS = "Table { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "move_pages(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "move_pages(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000000)", "First row", show=False),
        Binding("end,G", "move(1000000000)", "Last row", show=False),
    ]

    class Opened(Message):
        """A row was clicked that had the cursor already."""

    def __init__(self, glyphs: Glyphs, identity: Callable[[T], Hashable], *, id: str | None = None) -> None:
        super().__init__(glyphs, id=id)
        self._identity = identity
        self._columns: Sequence[Column[T]] = ()
        self._order = Order("")
        self._at = 0
        self._top = 0
        self._moved = False
        self.rows: Sequence[T] = ()

    def fill(self, rows: Sequence[T], columns: Sequence[Column[T]], order: Order) -> None:
        """Show these rows, which are in this order. The cursor stays on its row, or else at its place.

        One that nobody has moved stays at the top: what comes later may be worse, and comes above.
        """
        current = self.current
        self.rows, self._columns, self._order = rows, columns, order
        if current is not None and self._moved:
            wanted = self._identity(current)
            if not (self._at < len(rows) and self._identity(rows[self._at]) == wanted):
                self._at = next((at for at, row in enumerate(rows) if self._identity(row) == wanted), self._at)
        self._see_cursor()
        self.redraw()

    @property
    def current(self) -> T | None:
        """The row that has the cursor."""
        return self.rows[self._at] if self._at < len(self.rows) else None

    @property
    def place(self) -> str:
        """Which row has the cursor, of how many."""
        return f"{self._at + 1}/{len(self.rows)}" if self.rows else ""

    @property
    def in_sight(self) -> Sequence[T]:
        """The rows in sight."""
        return self.rows[self._top : self._top + self._height]

    def render_line(self, y: int) -> Strip:
        shown = fit(self._columns, self.size.width)
        if y == 0:
            return self.strip(self._titles(shown))
        at = self._top + y - 1
        if at >= len(self.rows):
            return Strip.blank(self.size.width)
        return self.strip(self._cells(self.rows[at], shown), "selected" if at == self._at else "")

    def text(self) -> str:
        """All rows with all columns, as plain text."""
        return table_text(self.rows, self._columns)

    def row_text(self) -> str:
        """The row that has the cursor, as plain text."""
        row = self.current
        return "  ".join(column.text(row) for column in self._columns) if row is not None else ""

    def action_move(self, step: int) -> None:
        self._moved = True
        self._at = min(max(self._at + step, 0), max(len(self.rows) - 1, 0))
        self._see_cursor()
        self.redraw()

    def action_move_pages(self, pages: int) -> None:
        self.action_move(pages * max(self._height - 1, 1))

    def on_resize(self, event: events.Resize) -> None:
        self._see_cursor()
        self.forget()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.action_move(_WHEEL_ROWS)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.action_move(-_WHEEL_ROWS)

    def on_click(self, event: events.Click) -> None:
        at = self._top + event.y - 1
        if event.y == 0 or at >= len(self.rows):
            return
        if at == self._at:
            self.post_message(self.Opened())
        self.action_move(at - self._at)

    @property
    def _height(self) -> int:
        """How many rows are seen."""
        return max(self.size.height - 1, 1)

    def _see_cursor(self) -> None:
        self._at = min(self._at, max(len(self.rows) - 1, 0))
        self._top = min(max(self._top, self._at - self._height + 1), self._at)
        self._top = max(min(self._top, len(self.rows) - self._height), 0)

    def _titles(self, shown: Sequence[tuple[Column[T], int]]) -> Line:
        spans: list[Span] = []
        for column, width in shown:
            title, mark = column.title, "heading"
            if title and title == self._order.title:
                sign = self.glyphs.falling if self._order.descending else self.glyphs.rising
                title, mark = cell(title, min(len(title), width - 1), "") + sign, "sorted"
            spans += [Span(" " * GAP)] * bool(spans)
            spans.append(Span(cell(title, width, self.glyphs.cut, right=column.right), mark))
        return tuple(spans)

    def _cells(self, row: T, shown: Sequence[tuple[Column[Any], int]]) -> Line:
        spans: list[Span] = []
        for column, width in shown:
            spans += [Span(" " * GAP)] * bool(spans)
            text = cell(column.text(row), width, self.glyphs.cut, right=column.right)
            spans.append(Span(text, column.mark(row) if column.mark else ""))
        return tuple(spans)
