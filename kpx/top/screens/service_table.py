"""The table of service ports, of which one can be opened."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from kpx.top.columns import Column
from kpx.top.pages import services
from kpx.top.screens.table import TableView
from kpx.top.snapshot import Service, Snapshot


class ServiceTable(TableView[Service]):
    """All service ports, ordered by name at first."""

    PAGE = "services"

    def __init__(self) -> None:
        super().__init__(services.BY_NAME)

    def columns(self, found: Snapshot) -> Sequence[Column[Service]]:
        return services.columns(found)

    def made_of(self, found: Snapshot) -> Sequence[object]:
        return (found.services, found.counted, found.flows, found.differences)

    def rows(self, found: Snapshot) -> Iterable[Service]:
        return found.services

    def identity(self, row: Service) -> Hashable:
        return row.port

    def search(self, row: Service) -> str:
        return row.search
