"""The kernel's table of Services."""

from __future__ import annotations

from collections.abc import Sequence

from kpx.tables.ipvs.text import View
from kpx.top import words
from kpx.top.columns import Column
from kpx.top.lines import Line, Span, line
from kpx.top.snapshot import Entry, RulesTable

VIEWS = tuple(View)


def columns(table: RulesTable | None) -> Sequence[Column[Entry]]:
    """The columns; a line of ipvsadm's is one of its own."""
    if table is not None and table.titles:
        return [Column("", lambda one: one.address, 20, 200)]
    return [
        Column("ADDRESS", lambda one: one.address, 26, 50),
        Column("SERVICE", lambda one: one.name, 14, 34, rank=1),
        Column("DOES", lambda one: one.does, 7, 7, mark=lambda one: "" if one.does in ("", "forward") else "bad"),
        Column("CONN/S", lambda one: words.rate(one.rate), 6, 0, lambda one: one.rate or 0.0, 0, True, True),
        Column("CONNS", lambda one: words.number(one.count), 6, 0, lambda one: one.count or 0, 2, True, True),
    ]


def entries(table: RulesTable | None) -> Sequence[Entry]:
    return table.entries if table else ()


def search(one: Entry) -> str:
    """What a filter finds an entry by: its own text and its Service's name."""
    return f"{one.address} {one.port or one.key[0]} {one.does}"


def above(table: RulesTable | None) -> list[Line]:
    """Whose rules these are, or ipvsadm's heading."""
    if table is None:
        return [line(Span("reading the rules ...", "faint"))]
    if table.titles:
        return [line(Span(text, "title" if at else "faint")) for at, text in enumerate(table.titles)]
    return [line(Span(f"as the kernel holds them: {table.program}", "faint"))]
