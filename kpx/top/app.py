"""The app: which screen is shown, what was read last, and the keys that all screens have."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from kpx.tools.cluster import Options
from kpx.top.glyphs import Glyphs
from kpx.top.pages.services import find
from kpx.top.palette import KeysProvider
from kpx.top.reading.live import Follower, targets
from kpx.top.screens.conntrack import ConntrackView
from kpx.top.screens.help import HelpView
from kpx.top.screens.rules import RulesView
from kpx.top.screens.services import ServicesView
from kpx.top.screens.syncs import SyncsView
from kpx.top.screens.trace import TraceChoice
from kpx.top.screens.view import View
from kpx.top.snapshot import Focus, Snapshot, TraceWish

if TYPE_CHECKING:
    from kpx.top.reading.doctor import Examiner

NOTHING = Snapshot(0.0)


class Source(Protocol):
    """What the snapshots come from: a `Sampler`."""

    interval: float

    def start(self, deliver: Callable[[Snapshot], None]) -> None: ...

    def look(self, focus: Focus) -> None: ...

    def change_interval(self, factor: float) -> float: ...

    def stop(self) -> None: ...


class Sampled(Message):
    """Something was read. A later one takes the place of one that was not drawn yet."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Sampled)


class News(Message):
    """A live trace has seen something, or a runbook has found something."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, News)


def _doctor() -> View:
    from kpx.top.screens.doctor import DoctorView

    return DoctorView()


class TopApp(App[None]):
    """`kpx top`."""

    TITLE = "kpx top"
    CSS = "Screen { background: ansi_default; color: ansi_default; }"
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    COMMANDS: ClassVar[set[Any]] = {KeysProvider}
    MODES: ClassVar[dict[str, Any]] = {
        "services": ServicesView,
        "trace": TraceChoice,
        "rules": RulesView,
        "conntrack": ConntrackView,
        "syncs": SyncsView,
        "doctor": _doctor,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"app.switch_mode('{mode}')", mode.title(), show=False)
            for number, mode in enumerate(MODES, 1)
        ),
        Binding("space", "pause", "Pause", tooltip="hold the body still; the head goes on"),
        Binding("y", "copy", "Copy", tooltip="the row, or the page; by OSC 52, which not every terminal takes"),
        Binding("Y", "copy_screen", "Copy screen", show=False, tooltip="what is seen"),
        Binding("w", "write", "Write", tooltip="all rows to a file in this folder"),
        Binding("plus", "interval(2)", "Slower", show=False),
        Binding("minus", "interval(0.5)", "Faster", show=False),
        Binding("colon", "command_palette", "Commands", show=False),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, source: Source, glyphs: Glyphs, page: str = "services", options: Options | None = None) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.glyphs = glyphs
        self.paused = False
        self.said = ""
        self.latest = NOTHING
        self.shown = NOTHING
        self._source = source
        self._followers: list[Follower] = []
        self._page = page
        self._options = options or Options()
        self._examiner: Examiner | None = None

    # What the screens ask.

    @property
    def way(self) -> list[View]:
        """The screens from the tab's own to the one that is seen."""
        return [screen for screen in self.screen_stack if isinstance(screen, View)]

    @property
    def tabs(self) -> list[tuple[str, bool]]:
        return [(f"{at} {mode.title()}", mode == self.current_mode) for at, mode in enumerate(self.MODES, 1)]

    def look(self, focus: Focus) -> None:
        """This is what is to be read from now on."""
        self._source.look(focus)

    def follow(self, wish: TraceWish) -> Follower:
        """Follow real packets to a service port, from now on."""
        found = find(self.shown, wish.port)
        follower = Follower(targets(found.row) if found else (), wish.sender, self._news)
        self._followers.append(follower)
        follower.start()
        return follower

    def _news(self) -> None:
        self.post_message(News())

    @property
    def examiner(self) -> Examiner:
        """What runs the runbooks. It is loaded when somebody wants it: that takes a while."""
        if self._examiner is None:
            from kpx.top.reading.doctor import Examiner

            self._examiner = Examiner(self._options, self._news)
        return self._examiner

    def say(self, text: str) -> None:
        """Show a word on what was done, until the next key."""
        self.said = text
        if self.way:
            self.way[-1].draw_frame()

    # What happens.

    def on_mount(self) -> None:
        self.switch_mode(self._page)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.exit)
        self._source.start(lambda snapshot: cast(None, self.post_message(Sampled(snapshot))))

    def on_unmount(self) -> None:
        for follower in self._followers:
            follower.stop()
        for follower in self._followers:
            follower.join()
        self._source.stop()
        if self._examiner is not None:
            self._examiner.stop()

    def on_sampled(self, message: Sampled) -> None:
        self.latest = message.snapshot
        if not self.paused:
            self.shown = message.snapshot
        if self.way:
            view = self.way[-1]
            view.draw_frame() if self.paused else view.draw(anew=False)

    def on_news(self) -> None:
        if self.way and not self.paused:
            self.way[-1].draw()

    def on_key(self) -> None:
        if self.said:
            self.say("")

    # What the keys do.

    def action_pause(self) -> None:
        self.paused = not self.paused
        if not self.paused:
            self.shown = self.latest
        self.way[-1].draw()

    def action_interval(self, factor: float) -> None:
        self.say(f"read every {self._source.change_interval(factor):g} s")

    def action_copy(self) -> None:
        text = self.way[-1].row_text()
        self.copy_to_clipboard(text)
        self.say(f"copied {len(text.splitlines())} lines" if "\n" in text else f"copied: {text}")

    def action_copy_screen(self) -> None:
        self.copy_to_clipboard(self.screen_text())
        self.say("copied the screen")

    def action_write(self) -> None:
        path = Path(f"kpx-top-{self.current_mode}-{time.strftime('%Y%m%d-%H%M%S')}.txt")
        try:
            path.write_text(f"{self.way[-1].text()}\n", encoding="utf-8")
        except OSError as error:
            self.say(f"cannot write {path}: {error.strerror}")
        else:
            self.say(f"written: {path.absolute()}")

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpView):
            self.push_screen(HelpView(self.screen.active_bindings))

    def screen_text(self) -> str:
        """What is seen, as plain text."""
        screen: Screen[Any] = self.screen
        return "\n".join(strip.text.rstrip() for strip in screen._compositor.render_strips())
