"""Rows to print."""

from __future__ import annotations

from kpx.kernel.ipvs.types import Counters, Info, Real, RealServer, Settings, Timeouts, Virtual, VirtualServer
from kpx.tables.ipvs.selection import Selection
from kpx.tables.ipvs.snapshot import Row, Snapshot

SERVER = Virtual("10.96.0.1", 80, "TCP")


def row(
    virtual: Virtual = SERVER,
    settings: Settings | None = None,
    counters: Counters | None = None,
    reals: tuple[RealServer, ...] = (),
) -> Row:
    return Row(VirtualServer(virtual, settings or Settings(), counters or Counters()), list(reals))


def real(address: str = "10.0.0.1", port: int = 8080, **values: int | Counters) -> RealServer:
    return RealServer(Real(address, port), **values)


def snapshot(*rows: Row, selection: Selection | None = None) -> Snapshot:
    return Snapshot(Info((1, 2, 1), 4096), Timeouts(900, 120, 300), list(rows), selection)
