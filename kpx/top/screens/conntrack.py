"""The conntrack table."""

from __future__ import annotations

from collections.abc import Sequence

from kpx.top.lines import Line
from kpx.top.pages import conntrack
from kpx.top.screens.view import TextView
from kpx.top.snapshot import Snapshot


class ConntrackView(TextView):
    """How full it is, how that goes on, and whose flows fill it."""

    PAGE = "conntrack"
    crumb = "Conntrack"

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        return conntrack.lines(found, width, self.top.glyphs)
