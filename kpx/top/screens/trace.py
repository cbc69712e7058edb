"""The path of a packet to a service port, and which service port that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from kpx.proxier.frontends import ServicePortName
from kpx.top.lines import Line
from kpx.top.pages import trace
from kpx.top.reading.live import Follower
from kpx.top.screens.service_table import ServiceTable
from kpx.top.screens.view import TextView
from kpx.top.snapshot import Focus, Service, Snapshot, TraceWish


class TraceView(TextView):
    """One path: to which address, and from where, the keys say."""

    PAGE = "trace"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "sender", "From"),
        Binding("n", "address", "Next address"),
        Binding("a", "every_hop", "All hops"),
        Binding("l", "live", "Live", tooltip="follow real packets, until l is pressed again or the screen is left"),
    ]

    def __init__(self, port: ServicePortName) -> None:
        super().__init__()
        self.wish = TraceWish(port)
        self.every_hop = False
        self._follower: Follower | None = None
        self.crumb = f"trace {port}"

    def focus_on(self) -> Focus:
        return Focus(self.PAGE, trace=self.wish, visible=(self.wish.port,))

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        if self._follower is not None:
            return trace.live_lines(self._follower.seen(), width)
        traced = found.traced if found.traced and found.traced.wish == self.wish else None
        return trace.lines(traced, width, self.top.glyphs, every_hop=self.every_hop, counted=found.counted)

    def status(self) -> str:
        anyone = "a pod" if self._follower is None else "anyone"
        return "  ".join(filter(None, (f"from {self.wish.sender or anyone}", self.pane.place)))

    def action_sender(self) -> None:
        """From the next sort of sender."""
        at = trace.SENDERS.index(self.wish.sender)
        self._ask(TraceWish(self.wish.port, self.wish.address, trace.SENDERS[(at + 1) % len(trace.SENDERS)]))

    def action_address(self) -> None:
        """To the next address of the service port."""
        self._ask(TraceWish(self.wish.port, self.wish.address + 1, self.wish.sender))

    def action_every_hop(self) -> None:
        """Also what matched without effect, or only what tells."""
        self.every_hop = not self.every_hop
        self.draw()

    def action_live(self) -> None:
        """Follow real packets, from the same senders to all addresses of the service port; or no more."""
        if self._follower is not None:
            self._disarm()
        else:
            self._follower = self.top.follow(self.wish)
        self.draw()

    def on_screen_suspend(self) -> None:
        self._disarm()

    def on_unmount(self) -> None:
        self._disarm()

    def _disarm(self) -> None:
        if self._follower is not None:
            self._follower.stop()
            self._follower = None

    def _ask(self, wish: TraceWish) -> None:
        self._disarm()
        self.wish = wish
        self.top.look(self.focus_on())
        self.draw()


class TraceChoice(ServiceTable):
    """The service ports, of which one is to be chosen."""

    crumb = "Trace: choose a Service"

    def open(self, row: Service) -> None:
        self.app.push_screen(TraceView(row.port))
