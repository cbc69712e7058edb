"""The table of Services: what is wanted of each service port beside what the kernel counts of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from kpx.net import Family, join_port
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, ServicePortName, Verdict
from kpx.proxier.published import API_VERSION
from kpx.tools.kernel import Destination, Held, Port

Connections = Mapping[tuple[Family, ServicePortName], Mapping[Destination, int]]


class _Shown(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is shown as JSON (docs/json.md)."""


class Address(_Shown, frozen=True):
    """An address that a service port answers on; None for a node port."""

    kind: str
    address: str | None
    port: int
    verdict: str


class EndpointRow(_Shown, frozen=True):
    """An endpoint; connections are the new ones that the kernel counted, None where it does not count."""

    ip: str
    port: int
    ready: bool
    serving: bool
    terminating: bool
    local: bool
    used: bool
    connections: int | None = None
    per_second: float | None = None


class Row(_Shown, frozen=True):
    """A service port, both families together."""

    namespace: str
    name: str
    port: str
    protocol: str
    kinds: tuple[str, ...]
    addresses: tuple[Address, ...]
    endpoints: tuple[EndpointRow, ...]
    ready: int
    without_endpoints: bool
    connections: int | None = None
    per_second: float | None = None
    affinity_seconds: int | None = None
    internal_policy: str = "Cluster"
    external_policy: str = "Cluster"

    @property
    def full_name(self) -> str:
        """``ns/name:port``."""
        return str(ServicePortName(self.namespace, self.name, self.port, self.protocol))

    @property
    def dropped(self) -> bool:
        """Whether there are endpoints, but some address has none here for its policy (Local), and drops."""
        return not self.without_endpoints and any(one.verdict == Verdict.DROP.value for one in self.addresses)


class Table(_Shown, frozen=True):
    """What `kpx services` shows."""

    source: str
    node: str
    mode: str
    counted: bool
    seconds: float | None
    notes: tuple[str, ...]
    services: tuple[Row, ...]
    api_version: str = API_VERSION


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are shown. ``pattern`` is searched for in ``ns/name:port``; ``ports`` are those of one Service."""

    namespace: str = ""
    pattern: re.Pattern[str] | None = None
    ports: frozenset[ServicePortName] | None = None
    ip: str = ""
    port: int = 0

    def accepts(self, row: Row) -> bool:
        return (
            (not self.namespace or row.namespace == self.namespace)
            and (self.pattern is None or self.pattern.search(row.full_name) is not None)
            and (self.ports is None or (row.namespace, row.name, row.port, row.protocol) in self.ports)
            and (not self.ip or self.ip in {one.address for one in row.addresses} | {one.ip for one in row.endpoints})
            and (not self.port or self.port in {one.port for one in row.addresses})
        )


def count(held: Held | None, ports: Iterable[Port]) -> Connections | None:
    """The new connections of every endpoint; None where the kernel does not count them."""
    if held is None or not held.counts:
        return None
    return {(family, one.port): held.connections(family, one) for family, one in ports}


def rows(ports: Iterable[Port], counted: Connections | None) -> list[Row]:
    """One row for each service port, ordered by name."""
    by_port: dict[ServicePortName, list[Port]] = {}
    for family, one in ports:
        by_port.setdefault(one.port, []).append((family, one))
    return [_row(port, some, counted) for port, some in sorted(by_port.items())]


def _row(port: ServicePortName, ports: Sequence[Port], counted: Connections | None) -> Row:
    frontends = [frontend for _, one in ports for frontend in one.frontends]
    endpoints = tuple(
        _endpoint(one, endpoint, (counted or {}).get((family, port), {}), counted is not None)
        for family, one in ports
        for endpoint in one.endpoints
    )
    first = ports[0][1]
    return Row(
        *port,
        kinds=tuple(kind.value for kind in Kind if any(one.kind is kind for one in frontends)),
        addresses=tuple(map(_address, frontends)),
        endpoints=endpoints,
        ready=sum(one.ready for one in endpoints),
        without_endpoints=not any(one.has_endpoints for _, one in ports),
        connections=None if counted is None else sum(one.connections or 0 for one in endpoints),
        affinity_seconds=first.affinity,
        internal_policy=first.internal_scope.value,
        external_policy=first.external_scope.value,
    )


def _address(frontend: Frontend) -> Address:
    return Address(frontend.kind.value, frontend.address, frontend.port, frontend.verdict.value)


def _endpoint(of: Frontends, one: Endpoint, counted: Mapping[Destination, int], counts: bool) -> EndpointRow:
    return EndpointRow(
        one.ip,
        one.port,
        one.ready,
        one.serving,
        one.terminating,
        one.local,
        one in of.reachable,
        counted.get((one.ip, one.port), 0) if counts else None,
    )


def with_rates(before: Iterable[Row], after: Iterable[Row], seconds: float) -> list[Row]:
    """The later rows, with what came a second since the earlier ones. A counter that began anew counts from zero."""
    known = {(row.full_name, row.protocol): row for row in before}
    return [_rated(known.get((row.full_name, row.protocol)), row, seconds) for row in after]


def _rated(before: Row | None, row: Row, seconds: float) -> Row:
    if row.connections is None:
        return row
    known = {(one.ip, one.port): one.connections or 0 for one in before.endpoints} if before else {}
    # A sum that fell tells nothing of what came: one of its counters began anew, or is gone.
    more = {
        (one.ip, one.port): max((one.connections or 0) - known.get((one.ip, one.port), 0), 0) for one in row.endpoints
    }
    return msgspec.structs.replace(
        row,
        per_second=round(sum(more.values()) / seconds, 2),
        endpoints=tuple(
            msgspec.structs.replace(one, per_second=round(more[one.ip, one.port] / seconds, 2)) for one in row.endpoints
        ),
    )


# The table as text.


@dataclass(frozen=True, slots=True)
class Layout:
    """How the text is laid out: ``wide`` shows all addresses and policies, ``endpoints`` each endpoint in a line."""

    wide: bool = False
    endpoints: bool = False
    counted: bool = True
    rates: bool = False


_SHOWN_ADDRESSES = 2


def text(found: Sequence[Row], layout: Layout) -> str:
    """The rows as aligned columns."""
    heads = ["NAMESPACE", "NAME", "PORTS", "KINDS", "ADDRESSES", "ENDPOINTS"]
    heads += ["CONNECTIONS"] * layout.counted + ["PER SECOND"] * layout.rates
    heads += ["PORT NAME", "AFFINITY", "POLICIES"] * layout.wide
    cells = [heads]
    for row in found:
        cells.append(_cells(row, layout))
        if layout.endpoints:
            cells += [_endpoint_cells(one, layout) for one in row.endpoints]
    return aligned(cells)


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Cells as columns two spaces apart; rows may be of different lengths."""
    widths = [max(len(row[at]) for row in cells if at < len(row)) for at in range(max(map(len, cells)))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip() for row in cells
    )


def _cells(row: Row, layout: Layout) -> list[str]:
    cells = [
        row.namespace or "-",
        row.name or "-",
        ports_text(row),
        ",".join(row.kinds) or "-",
        _addresses(row, layout),
        f"{row.ready}/{len(row.endpoints)}{mark(row)}",
    ]
    cells += [str(row.connections)] * layout.counted
    cells += ["-" if row.per_second is None else f"{row.per_second:g}"] * layout.rates
    if layout.wide:
        affinity = f"{row.affinity_seconds}s" if row.affinity_seconds else "-"
        cells += [row.port or "-", affinity, f"{row.internal_policy}/{row.external_policy}"]
    return cells


def mark(row: Row) -> str:
    """What is wrong with its endpoints, in a word."""
    if row.without_endpoints:
        return " NONE"
    return " none here" if row.dropped else ""


def ports_text(row: Row) -> str:
    """``443:30443/TCP``, as kubectl writes it."""
    numbers = dict.fromkeys(one.port for one in row.addresses if one.address is not None)
    node_ports = dict.fromkeys(one.port for one in row.addresses if one.address is None)
    shown = ",".join(map(str, numbers or node_ports))
    if numbers and node_ports:
        shown += ":" + ",".join(map(str, node_ports))
    return f"{shown or '-'}/{row.protocol}"


def _addresses(row: Row, layout: Layout) -> str:
    found = list(dict.fromkeys(one.address for one in row.addresses if one.address))
    if layout.wide or len(found) <= _SHOWN_ADDRESSES:
        return ",".join(found) or "-"
    return f"{','.join(found[:_SHOWN_ADDRESSES])},+{len(found) - _SHOWN_ADDRESSES}"


def _endpoint_cells(one: EndpointRow, layout: Layout) -> list[str]:
    if one.terminating:
        state = "terminating, serves" if one.serving else "terminating"
    else:
        state = "ready" if one.ready else "not ready"
    told = f"{state}, local" if one.local else state
    cells = ["", "", "", "", f"  -> {join_port(one.ip, one.port)}", told]
    cells += [str(one.connections)] * layout.counted
    return cells + ["-" if one.per_second is None else f"{one.per_second:g}"] * layout.rates
