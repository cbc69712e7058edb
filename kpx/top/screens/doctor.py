"""The runbooks, run on this node, and a fix where somebody says yes to it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from kpx.doctor.finding import Finding
from kpx.doctor.treating import can_be_made
from kpx.top.columns import Column, Order
from kpx.top.lines import Line
from kpx.top.pages import doctor
from kpx.top.screens.table import TableView
from kpx.top.screens.view import TextView
from kpx.top.snapshot import Snapshot


class DoctorView(TableView[Finding]):
    """All findings, the worst first."""

    PAGE = "doctor"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("e", "examine", "Examine again")]
    crumb = "Doctor"

    def __init__(self) -> None:
        super().__init__(Order("STATUS"))

    def on_mount(self) -> None:
        self.top.examiner.start()

    def columns(self, found: Snapshot) -> Sequence[Column[Finding]]:
        return doctor.columns()

    def rows(self, found: Snapshot) -> Iterable[Finding]:
        return self.top.examiner.seen().findings

    def identity(self, row: Finding) -> Hashable:
        return row.id, row.result.subject, row.result.says

    def search(self, row: Finding) -> str:
        return doctor.search(row)

    def above(self, found: Snapshot, width: int) -> Sequence[Line]:
        return doctor.above(self.top.examiner.seen())

    def open(self, row: Finding) -> None:
        self.app.push_screen(FindingView(row))

    def action_examine(self) -> None:
        """Run all runbooks again."""
        self.top.examiner.start()


class FindingView(TextView):
    """All of one finding; its fix is made only after a yes."""

    PAGE = "doctor"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("x", "fix", "Fix")]

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding
        self.crumb = finding.id
        self._asking = False

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        return doctor.details(self.finding, width, asking=self._asking)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is not always a fix that can be made here."""
        return can_be_made(self.finding.result.fix) if action == "fix" else super().check_action(action, parameters)

    def action_fix(self) -> None:
        """Ask whether the fix is to be made."""
        self._asking = True
        self.draw()

    def on_key(self, event: events.Key) -> None:
        """The answer, if something was asked: only y is a yes."""
        if not self._asking or event.key == "x":
            return
        event.stop()
        event.prevent_default()
        self._asking = False
        if event.key == "y":
            self.top.examiner.start(self.finding.result.fix)
            self.app.pop_screen()
        else:
            self.draw()
