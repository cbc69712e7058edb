"""Widgets that draw lines of text: as they are, or as a pane that scrolls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from kpx.top.glyphs import Glyphs
from kpx.top.lines import STYLES, Line, fitted, plain

_WHEEL_LINES = 3


class Drawn(Widget):
    """Lines of text, cut at the right; as high as there are lines, or as its style says."""

    DEFAULT_CSS = "Drawn { height: auto; width: 1fr; }"

    def __init__(self, glyphs: Glyphs, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.glyphs = glyphs
        self.lines: Sequence[Line] = ()
        self._strips: list[Strip] = []

    def show(self, lines: Sequence[Line]) -> None:
        """Draw these from now on."""
        if lines == self.lines:
            return
        higher = len(lines) != len(self.lines)
        self.lines = lines
        if higher and self.styles.auto_dimensions:
            self.refresh(layout=True)
        self.redraw()

    def redraw(self) -> None:
        """Have the lines drawn that differ from what they were: the terminal may be at the end of a slow line."""
        width, height = self.size
        before, self._strips = self._strips, [self.render_line(y) for y in range(height)]
        for y, strip in enumerate(self._strips):
            if y >= len(before) or strip != before[y]:
                self.refresh(Region(0, y, width, 1))

    def forget(self) -> None:
        """Have all lines drawn: what the terminal has of them is not known any more."""
        self._strips = []
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.lines)

    def render_line(self, y: int) -> Strip:
        return self.strip(self.lines[y]) if y < len(self.lines) else Strip.blank(self.size.width)

    def strip(self, one: Line, mark: str = "") -> Strip:
        """A line as the terminal gets it; `mark` is laid over all of it."""
        over = STYLES[mark]
        width = self.size.width
        segments = [Segment(span.text, STYLES[span.mark] + over) for span in fitted(one, width, self.glyphs.cut)]
        return Strip(segments).adjust_cell_length(width, over)


class Pane(Drawn, can_focus=True):
    """Lines that scroll."""

    DEFAULT_CSS = "Pane { height: 1fr; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(-1)", "Up", show=False),
        Binding("down,j", "scroll_by(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "scroll_pages(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "scroll_pages(1)", "Page down", show=False),
        Binding("home,g", "scroll_by(-1000000)", "First line", show=False),
        Binding("end,G", "scroll_by(1000000)", "Last line", show=False),
    ]

    top = 0

    def show(self, lines: Sequence[Line]) -> None:
        if lines != self.lines:
            self.lines = lines
            self.action_scroll_by(0)

    def render_line(self, y: int) -> Strip:
        return super().render_line(y + self.top)

    @property
    def place(self) -> str:
        """Which lines are seen, where not all of them are."""
        height = self.size.height
        if len(self.lines) <= height:
            return ""
        return f"lines {self.top + 1}-{min(self.top + height, len(self.lines))} of {len(self.lines)}"

    def text(self) -> str:
        """All lines, as plain text."""
        return plain(self.lines)

    def action_scroll_by(self, step: int) -> None:
        last = max(len(self.lines) - self.size.height, 0)
        self.top = min(max(self.top + step, 0), last)
        self.redraw()

    def action_scroll_pages(self, pages: int) -> None:
        self.action_scroll_by(pages * max(self.size.height - 1, 1))

    def on_resize(self, event: events.Resize) -> None:
        self.action_scroll_by(0)
        self.forget()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.action_scroll_by(_WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.action_scroll_by(-_WHEEL_LINES)
