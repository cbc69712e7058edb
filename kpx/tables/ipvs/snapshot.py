"""The table of virtual servers, read at one time."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.kernel.ipvs.table import Ipvs
from kpx.kernel.ipvs.types import Info, RealServer, Timeouts, VirtualServer
from kpx.tables.ipvs.order import sorted_reals, sorted_virtuals
from kpx.tables.ipvs.selection import Selection


@dataclass(frozen=True, slots=True)
class Row:
    """A virtual server with its real servers."""

    virtual: VirtualServer
    reals: list[RealServer]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What IPVS is, and its virtual servers in ipvsadm's order: all, or those that ``selection`` names."""

    info: Info
    timeouts: Timeouts
    rows: list[Row]
    selection: Selection | None = None


def take(ipvs: Ipvs, selection: Selection | None) -> Snapshot:
    """Read the table."""
    virtuals = [one for one in ipvs.virtuals() if selection is None or selection.names(one.virtual)]
    rows = [Row(one, sorted_reals(ipvs.reals(one.virtual))) for one in sorted_virtuals(virtuals)]
    return Snapshot(ipvs.info(), ipvs.timeouts(), rows, selection)
