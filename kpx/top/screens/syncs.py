"""What the proxier did, and what others did to its rules."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from kpx.proxier.published import SyncRecord
from kpx.top.columns import Column, Order
from kpx.top.lines import Line
from kpx.top.pages import syncs
from kpx.top.screens.table import TableView
from kpx.top.screens.view import TextView
from kpx.top.snapshot import Snapshot


class SyncsView(TableView[SyncRecord]):
    """The last syncs, the newest first."""

    PAGE = "syncs"
    crumb = "Syncs"

    def __init__(self) -> None:
        super().__init__(Order("TIME", descending=True))

    def columns(self, found: Snapshot) -> Sequence[Column[SyncRecord]]:
        return syncs.columns()

    def rows(self, found: Snapshot) -> Iterable[SyncRecord]:
        return found.syncs.syncs if found.syncs else ()

    def identity(self, row: SyncRecord) -> Hashable:
        return row.number

    def search(self, row: SyncRecord) -> str:
        return syncs.search(row)

    def above(self, found: Snapshot, width: int) -> Sequence[Line]:
        return syncs.head(found, width)

    def open(self, row: SyncRecord) -> None:
        self.app.push_screen(SyncView(row))


class SyncView(TextView):
    """All of one sync."""

    PAGE = "syncs"

    def __init__(self, sync: SyncRecord) -> None:
        super().__init__()
        self.sync = sync
        self.crumb = f"sync {sync.number}"

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        return syncs.details(self.sync, width)
