"""Service ports as the table shows them: made once for each, since there may be 10,000. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kpx.proxier.frontends import Kind, ServicePortName
from kpx.tools.services import Row, mark, ports_text
from kpx.top.snapshot import Cells, Service


def service(row: Row) -> Service:
    """A service port with its cells, and with what a filter finds it by: also addresses and endpoints."""
    port = ServicePortName(row.namespace, row.name, row.port, row.protocol)
    cells = Cells(
        row.namespace or "-",
        f"{row.name}:{row.port}" if row.name and row.port else row.name or row.port or "-",
        type_of(row),
        _address(row),
        ports_text(row),
        f"{row.ready}/{len(row.endpoints)}{mark(row)}",
    )
    words = [row.full_name, row.protocol, cells.type, cells.ready]
    words += [f"{one.address or ''}:{one.port}" for one in row.addresses]
    words += [f"{one.ip}:{one.port}" for one in row.endpoints]
    return Service(port, row, cells, " ".join(words))


def widths(services: Iterable[Service]) -> tuple[int, ...]:
    """The widths of the widest cells."""
    return tuple(max(map(len, column)) for column in zip(*(one.cells for one in services), strict=True))


def type_of(row: Row) -> str:
    """The type of its Service, as far as its addresses tell."""
    if Kind.LOAD_BALANCER.value in row.kinds:
        return "LoadBalancer"
    if Kind.NODE_PORT.value in row.kinds:
        return "NodePort"
    return "ExternalIP" if Kind.EXTERNAL_IP.value in row.kinds else "ClusterIP"


def _address(row: Row) -> str:
    """The first address, and how many more there are."""
    found = dict.fromkeys(address.address for address in row.addresses if address.address)
    return f"{next(iter(found))}{f' +{len(found) - 1}' if len(found) > 1 else ''}" if found else "-"
