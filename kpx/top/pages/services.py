"""All Services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from kpx.proxier.frontends import ServicePortName
from kpx.top import words
from kpx.top.columns import Column, Order
from kpx.top.snapshot import Service, Snapshot

T = TypeVar("T")

BY_NAME = Order("NAME")


def columns(found: Snapshot) -> list[Column[Service]]:
    """The columns of Services; those that nobody counts are left out."""
    chosen = [
        _own(found, "NAMESPACE", 0, 9, 18, key=lambda one: one.port, rank=2),
        _own(found, "NAME", 1, 12, 40),
        _own(found, "TYPE", 2, 9, 12, rank=5),
        _own(found, "ADDRESS", 3, 15, 42, rank=4),
        _own(found, "PORTS", 4, 9, 15, key=_first_port, rank=3),
        replace(_own(found, "READY", 5, 8, 14, key=_unready), mark=_painted),
    ]
    if differ := found.differences.by_port:
        chosen.append(
            replace(
                counting("DIFFER", 6, lambda one: len(differ.get(one.port, ()))),
                text=lambda one: str(len(differ[one.port])) if one.port in differ else "",
                mark=lambda _: "bad",
            )
        )
    if (counted := found.counted) is not None:
        rates, totals = counted.rates, counted.totals
        chosen += [
            counting("CONN/S", 6, lambda one: rates.get(one.port, 0.0), words.rate),
            counting("CONNS", 6, lambda one: totals.get(one.port, 0), rank=6),
        ]
    if found.flows is not None:
        flows = {port: one.flows for port, one in found.flows.by_service.items()}
        octets = {port: one.octets for port, one in found.flows.by_service.items() if one.octets is not None}
        chosen.append(counting("FLOWS", 5, lambda one: flows.get(one.port, 0), rank=1))
        if octets:
            chosen.append(counting("BYTES", 5, lambda one: octets.get(one.port, 0), rank=7))
    return chosen


def _own(
    found: Snapshot,
    title: str,
    cell: int,
    least: int,
    most: int,
    *,
    key: Callable[[Service], Any] | None = None,
    rank: int = 0,
) -> Column[Service]:
    """A column of the services' own cells, no wider than the widest of them or the title with its sign."""
    needed = max(found.widths[cell] if found.widths else 0, len(title) + 1)
    return Column(title, lambda one: one.cells[cell], min(least, needed), min(most, needed), key, rank)


def counting(
    title: str, width: int, value: Callable[[T], float], text: Callable[[float], str] = words.number, rank: int = 0
) -> Column[T]:
    """A column of numbers, the largest of which come first."""
    return Column(title, lambda one: text(value(one)), width, 0, value, rank, True, True)


def _first_port(one: Service) -> int:
    return min((address.port for address in one.row.addresses), default=0)


def _unready(one: Service) -> tuple[bool, bool, int]:
    """Those that nobody answers come first."""
    return not one.row.without_endpoints, not one.row.dropped, one.row.ready


def _painted(one: Service) -> str:
    if one.row.without_endpoints:
        return "bad"
    return "warn" if one.row.dropped or one.row.ready < len(one.row.endpoints) else ""


def find(found: Snapshot, port: ServicePortName) -> Service | None:
    """A service port by its name."""
    return next((one for one in found.services if one.port == port), None)
