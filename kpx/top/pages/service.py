"""One service port: its endpoints, its rules, its flows."""

from __future__ import annotations

import textwrap

from kpx.net import join_port
from kpx.proxier.frontends import ServicePortName
from kpx.tools.flows import shown
from kpx.tools.kernel import Destination
from kpx.tools.services import EndpointRow
from kpx.top import words
from kpx.top.columns import Column, Order
from kpx.top.lines import Line, Span, line
from kpx.top.pages.services import counting, find
from kpx.top.snapshot import Rules, Snapshot

BY_ENDPOINT = Order("ENDPOINT")


def head(found: Snapshot, port: ServicePortName, width: int) -> list[Line]:
    """What a service port is, and where it answers."""
    one = find(found, port)
    if one is None:
        return [line(Span(f"{port}/{port.protocol} is gone", "bad"))]
    row = one.row
    told = [one.cells.type, f"internal {row.internal_policy}", f"external {row.external_policy}"]
    told += [f"affinity {row.affinity_seconds}s"] * bool(row.affinity_seconds)
    if found.flows is not None and (flows := found.flows.by_service.get(port)):
        told.append(f"{flows.flows} flows")
    lines = [
        line(Span(f"{port}/{port.protocol}", "title")),
        *(line(text) for text in textwrap.wrap(", ".join(told), width)),
    ]
    answers = [
        f"{address.kind} {join_port(address.address, address.port) if address.address else f'*:{address.port}'}"
        + ("" if address.verdict == "forward" else f" {address.verdict.upper()}S")
        for address in row.addresses
    ]
    lines += [line(text) for text in textwrap.wrap(", ".join(answers), width, break_on_hyphens=False)]
    for text in found.differences.by_port.get(port, ()):
        wrapped = textwrap.wrap(f"differs: {text}", width, subsequent_indent="  ", break_on_hyphens=False)
        lines += [line(Span(part, "bad")) for part in wrapped]
    return lines


def endpoint_columns(found: Snapshot, port: ServicePortName) -> list[Column[EndpointRow]]:
    """The columns of a service port's endpoints."""
    widest = max((len(join_port(one.ip, one.port)) for one in endpoints(found, port)), default=0)
    chosen: list[Column[EndpointRow]] = [
        Column("ENDPOINT", lambda one: join_port(one.ip, one.port), min(21, widest), widest, _at),
        Column("STATE", _state, 11, 19, mark=lambda one: "" if one.ready else "warn"),
        Column("WHERE", lambda one: "this node" if one.local else "elsewhere", 9, rank=2),
    ]
    if (counted := found.counted) is not None:
        rates, counts = counted.endpoint_rates.get(port, {}), counted.counts.get(port, {})
        whole = counted.totals.get(port, 0)
        chosen += [
            counting("CONN/S", 6, lambda one: rates.get(_at(one), 0.0), words.rate),
            counting("SHARE", 6, lambda one: counts.get(_at(one), 0) / whole if whole else 0.0, "{:.1%}".format),
            counting("CONNS", 6, lambda one: counts.get(_at(one), 0), rank=1),
        ]
    if found.flows is not None:
        flows = found.flows.by_service.get(port)
        backends = flows.backends if flows else {}
        chosen.append(counting("FLOWS", 5, lambda one: backends.get(_at(one), 0), rank=1))
    return chosen


def _at(one: EndpointRow) -> Destination:
    return one.ip, one.port


def _state(one: EndpointRow) -> str:
    if one.terminating:
        return "ending, serves" if one.serving else "ending"
    return ("ready" if one.ready else "not ready") + ("" if one.used or not one.ready else ", unused")


def endpoints(found: Snapshot, port: ServicePortName) -> list[EndpointRow]:
    """The endpoints of a service port."""
    one = find(found, port)
    return list(one.row.endpoints) if one else []


def rule_lines(rules: Rules | None, port: ServicePortName, width: int) -> list[Line]:
    """The rules of a service port, whole, however long they are."""
    if rules is None or rules.port != port:
        return [line(Span("reading the rules ...", "faint"))]
    lines: list[Line] = []
    for rule in rules.lines:
        parts = textwrap.wrap(rule, width, subsequent_indent="    ", break_on_hyphens=False) or [""]
        lines += [line(part) for part in parts]
    return lines or [line(Span("the kernel has no rule of this service port", "warn"))]


def flow_lines(found: Snapshot, port: ServicePortName) -> list[Line]:
    """Some of the flows to a service port."""
    if found.flows is None or found.flows.listed != port:
        return [line(Span("reading the flows ...", "faint"))]
    lines = [line(str(shown(flow, None))) for flow in found.flows.sample]
    whole = found.flows.by_service.get(port)
    left = (whole.flows if whole else 0) - len(lines)
    lines += [line(Span(f"and {left} more", "faint"))] * (left > 0)
    return lines or [line("no flow to this service port now")]
