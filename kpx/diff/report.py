"""What `kpx diff` finds, as JSON (docs/json.md) and as text. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from kpx.diff.difference import Difference, Sort
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.published import API_VERSION, DriftRecord

_SIGNS = {Sort.MISSING: "-", Sort.EXTRA: "+", Sort.DIFFERENT: "~", Sort.FOREIGN: "!"}
_COLOURS = {Sort.MISSING: "31", Sort.EXTRA: "33", Sort.DIFFERENT: "33", Sort.FOREIGN: "35"}
# The Services that are named where one thing hits many, and the last changes by others that are told.
_NAMED, _DRIFTS = 4, 3


@dataclass(frozen=True, slots=True)
class Report:
    """One comparison. ``compared`` is the number of service ports, each family's counted."""

    source: str
    origin: str
    node: str
    programs: tuple[str, ...]
    compared: int
    differences: tuple[Difference, ...]
    drift: tuple[DriftRecord, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hit(self) -> list[ServicePortName]:
        """The service ports that a difference hits."""
        return sorted({one.port for one in self.differences if one.port})


class _Shown(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is shown as JSON."""


class ShownDifference(_Shown, frozen=True):
    """A difference; the fields of the service port are null where it hits all of them."""

    family: str
    namespace: str | None
    name: str | None
    port: str | None
    protocol: str | None
    sort: str
    aspect: str
    subject: str
    text: str
    wanted: str
    held: str
    where: str
    rule: str


class Document(_Shown, frozen=True):
    """What `kpx diff -o json` prints."""

    source: str
    node: str
    programs: tuple[str, ...]
    compared: int
    equal: bool
    differences: tuple[ShownDifference, ...]
    drift: tuple[DriftRecord, ...]
    notes: tuple[str, ...]
    api_version: str = API_VERSION


def document(report: Report) -> Document:
    """The report as JSON has it."""
    return Document(
        report.source,
        report.node,
        report.programs,
        report.compared,
        not report.differences,
        tuple(map(_shown, report.differences)),
        report.drift,
        report.notes,
    )


def _shown(one: Difference) -> ShownDifference:
    port = tuple(one.port) if one.port else (None,) * 4
    namespace, name, number, protocol = port
    return ShownDifference(
        one.family.value,
        namespace,
        name,
        number,
        protocol,
        one.sort.value,
        one.aspect.value,
        one.subject,
        one.text,
        one.wanted,
        one.held,
        one.where,
        one.rule,
    )


@dataclass(frozen=True, slots=True)
class Style:
    """How wide the text is, and whether it has colour."""

    columns: int = 80
    colour: bool = False

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text


def lines(report: Report, style: Style) -> Iterator[str]:
    """The report as text."""
    programs = ", ".join(report.programs) or "no rules of a service proxy"
    yield from _wrapped(f"wanted by {report.origin}; in the kernel: {programs}", style, "")
    for heading, differences in _sections(report.differences):
        yield ""
        yield style.paint(heading, "1")
        for one in differences:
            yield from _difference(one, style)
    yield ""
    yield from _summary(report, style)


def _sections(differences: Iterable[Difference]) -> Iterator[tuple[str, list[Difference]]]:
    """The differences under what they hit: one thing that hits many Services once, then Service by Service."""
    general: list[Difference] = []
    same: dict[tuple[str, str, str], list[Difference]] = {}
    for one in differences:
        if one.port is None:
            general.append(one)
        else:
            same.setdefault((one.text, one.where, one.rule), []).append(one)
    if general:
        yield "the node", general
    by_hit: dict[tuple[ServicePortName, ...], list[Difference]] = {}
    for hits in same.values():
        by_hit.setdefault(tuple(sorted({one.port for one in hits if one.port})), []).append(hits[0])
    for ports, own in sorted(by_hit.items(), key=lambda hit: (len(hit[0]) == 1, hit[0])):
        yield _names(ports), own


def _name(port: ServicePortName) -> str:
    return f"{port} {port.protocol}" if port.name else "no Service"


def _names(ports: Iterable[ServicePortName]) -> str:
    named = list(dict.fromkeys(map(_name, ports)))
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def _difference(one: Difference, style: Style) -> Iterator[str]:
    for line in _wrapped(one.text, style, f"  {_SIGNS[one.sort]} ", "    "):
        yield style.paint(line, _COLOURS[one.sort])
    where = "wanted in" if one.sort is Sort.MISSING else "in"
    yield from _wrapped(f"{where} {one.where}{f': {one.rule}' if one.rule else ''}", style, "      ")


def _summary(report: Report, style: Style) -> Iterator[str]:
    if not report.differences:
        yield style.paint(f"no difference in {_many(report.compared, 'service port')}", "32")
    else:
        hit = f"{len(report.hit)} of {_many(report.compared, 'service port')}"
        yield f"{_many(len(report.differences), 'difference')}; {hit} hit"
    for record in report.drift[:_DRIFTS]:
        what = record.what or "; ".join(record.repaired[:1])
        mended = f" (mended: {record.repaired[0]})" if record.what and record.repaired else ""
        at = record.ended.partition(".")[0]
        yield from _wrapped(f"changed by others at {at}Z: {what}{mended}", style, "", "  ")


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _wrapped(text: str, style: Style, first: str, following: str | None = None) -> Sequence[str]:
    more = first if following is None else following
    return textwrap.wrap(text, style.columns, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)
