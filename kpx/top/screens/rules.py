"""The kernel's table of Services."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from kpx.top.columns import Column, Order
from kpx.top.lines import Line
from kpx.top.pages import rules
from kpx.top.screens.services import RulesOfView
from kpx.top.screens.table import TableView
from kpx.top.snapshot import Entry, Focus, Snapshot


class RulesView(TableView[Entry]):
    """All virtual addresses with where they lead to: IPVS's table as ipvsadm prints it, other rules in that form."""

    PAGE = "rules"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("v", "view", "View", tooltip="the next of ipvsadm's tables")]
    crumb = "Rules"

    def __init__(self) -> None:
        super().__init__(Order(""))
        self.view = rules.VIEWS[0]

    def focus_on(self) -> Focus:
        return Focus(self.PAGE, view=self.view)

    def columns(self, found: Snapshot) -> Sequence[Column[Entry]]:
        return rules.columns(found.kernel)

    def made_of(self, found: Snapshot) -> Sequence[object]:
        return (found.kernel,)

    def rows(self, found: Snapshot) -> Iterable[Entry]:
        return rules.entries(found.kernel)

    def identity(self, row: Entry) -> Hashable:
        return row.key

    def search(self, row: Entry) -> str:
        return rules.search(row)

    def above(self, found: Snapshot, width: int) -> Sequence[Line]:
        return rules.above(found.kernel)

    def open(self, row: Entry) -> None:
        if row.port is not None:
            self.app.push_screen(RulesOfView(row.port, f"rules of {row.port}"))

    def action_view(self) -> None:
        """The next of ipvsadm's tables."""
        at = rules.VIEWS.index(self.view)
        self.view = rules.VIEWS[(at + 1) % len(rules.VIEWS)]
        self.top.look(self.focus_on())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Views are IPVS's, whose table keeps ipvsadm's order."""
        table = self.top.shown.kernel
        ipvs = table is not None and bool(table.titles)
        if action == "view":
            return ipvs
        if action in ("sort", "reverse", "open"):
            return not ipvs
        return super().check_action(action, parameters)
