"""What all screens have: head, tabs, crumbs, notices, a body, a filter, and the keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_not
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget

from kpx.top.lines import Line, Span, joined, line
from kpx.top.pages import summary
from kpx.top.snapshot import Focus, Snapshot
from kpx.top.widgets.drawn import Drawn, Pane

if TYPE_CHECKING:
    from kpx.top.app import TopApp


class View(Screen[None]):
    """A screen. ``PAGE`` is what is read for it, ``crumb`` what it is called on the way to it."""

    PAGE: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back")]
    CSS = """
    View { layout: vertical; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    """

    crumb = ""
    _drawn_of: Sequence[object] = ()

    @property
    def top(self) -> TopApp:
        return cast("TopApp", self.app)

    def compose(self) -> ComposeResult:
        glyphs = self.top.glyphs
        for name in ("head", "tabs", "crumbs", "notices"):
            yield Drawn(glyphs, id=name)
        yield from self.body()
        yield Drawn(glyphs, id="keys")

    def body(self) -> Iterable[Widget]:
        """The widgets between head and keys."""
        raise NotImplementedError

    def focus_on(self) -> Focus:
        """What is to be read for this screen."""
        return Focus(self.PAGE)

    def fill(self, found: Snapshot) -> None:
        """Let the body show what was read."""
        raise NotImplementedError

    def status(self) -> str:
        """What stands at the right of the crumbs."""
        return ""

    def text(self) -> str:
        """The body as plain text, all of it."""
        raise NotImplementedError

    def row_text(self) -> str:
        """What is copied of the body: the row with the cursor, where there is one."""
        return self.text()

    def made_of(self, found: Snapshot) -> Sequence[object]:
        """The parts of what was read that the body is made of: while they are the same, it need not be made anew."""
        return (found,)

    def draw(self, *, anew: bool = True) -> None:
        """Draw what was read last; the body `anew`, or only if it is made of something else."""
        if not self.is_mounted or self.size.width == 0:
            return
        self.top.look(self.focus_on())
        parts = self.made_of(self.top.shown)
        anew = anew or len(parts) != len(self._drawn_of) or any(map(is_not, parts, self._drawn_of))
        with self.app.batch_update():
            if anew:
                self._drawn_of = parts
                self.fill(self.top.shown)
            self.draw_frame()

    def draw_frame(self) -> None:
        """Draw all but the body; it goes on while that is held still."""
        top, width = self.top, self.size.width
        glyphs = top.glyphs
        self._drawn("head").show(summary.head(top.latest, width, glyphs, paused=top.paused))
        self._drawn("tabs").show([summary.tabs(top.tabs, width)])
        self._drawn("crumbs").show([self._crumbs(width)])
        self._drawn("notices").show(summary.notices(top.latest, width, glyphs))
        self._drawn("keys").show([self._keys(width)])

    def _drawn(self, name: str) -> Drawn:
        return self.query_one(f"#{name}", Drawn)

    def _crumbs(self, width: int) -> Line:
        sign = f" {self.top.glyphs.crumb} "
        way = sign.join(view.crumb for view in self.top.way)
        said = self.top.said or self.status()
        gap = width - len(way) - len(said)
        if gap < 1:
            return line(Span(said)) if self.top.said else line(Span(way, "title"))
        return line(Span(way, "title"), " " * gap, Span(said, "good" if self.top.said else ""))

    def _keys(self, width: int) -> Line:
        """The keys of this screen, its own first; as many as there is room for, but always how to get help."""
        shown: dict[str, str] = {}
        for key, active in self.active_bindings.items():
            if active.binding.show and active.enabled:
                name = active.binding.key_display or self.app.get_key_display(active.binding)
                shown.setdefault(active.binding.description, name or key)
        last = [Span("? Help"), Span("q Quit")]
        room = width - sum(len(one.text) + 2 for one in last)
        own = joined((Span(f"{name} {told}") for told, name in shown.items() if told not in ("Help", "Quit")), room)
        return (*own, Span("  "), *joined(last, width)) if own else joined(last, width)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is no way back from a tab's own screen."""
        return len(self.top.way) > 1 if action == "back" else True

    def action_back(self) -> None:
        """To where one came from."""
        if len(self.top.way) > 1:
            self.app.pop_screen()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        self.call_after_refresh(self.draw)

    def on_resize(self, event: events.Resize) -> None:
        self.draw()

    def on_descendant_focus(self) -> None:
        """Other keys count now."""
        if self.is_current:
            self.draw_frame()


class TextView(View):
    """A screen whose body is lines of text."""

    def body(self) -> Iterable[Widget]:
        yield Pane(self.top.glyphs, id="pane")

    @property
    def pane(self) -> Pane:
        return self.query_one("#pane", Pane)

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        """The lines of the body."""
        raise NotImplementedError

    def fill(self, found: Snapshot) -> None:
        self.pane.show(self.lines(found, self.size.width))

    def status(self) -> str:
        return self.pane.place

    def text(self) -> str:
        return self.pane.text()
