"""Lines of text with marks on their parts, and what the marks look like. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.style import Style

from kpx.top.columns import cell


class Span(NamedTuple):
    """A piece of a line; ``mark`` is a name in `STYLES`."""

    text: str
    mark: str = ""


Line = tuple[Span, ...]

# Colours are the terminal's own. No meaning rests on a colour alone: the text says it too.
STYLES = {
    "": Style(),
    "title": Style(bold=True),
    "heading": Style(bold=True),
    "sorted": Style(bold=True, underline=True),
    "faint": Style(dim=True),
    "good": Style(color="green"),
    "warn": Style(color="yellow", bold=True),
    "bad": Style(color="red", bold=True),
    "key": Style(bold=True, reverse=True),
    "bar": Style(color="cyan"),
    "selected": Style(reverse=True),
}


def line(*parts: str | Span) -> Line:
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def plain(lines: Iterable[Line]) -> str:
    """The lines without their marks."""
    return "\n".join("".join(span.text for span in one).rstrip() for one in lines)


def joined(parts: Iterable[Span], width: int, gap: str = "  ") -> Line:
    """The parts that fit side by side, as many as there is room for, the first ones first."""
    spans: list[Span] = []
    used = 0
    for part in parts:
        needed = len(part.text) + (len(gap) if spans else 0)
        if used + needed > width:
            continue
        if spans:
            spans.append(Span(gap))
        spans.append(part)
        used += needed
    return tuple(spans)


def fitted(one: Line, width: int, cut: str) -> Line:
    """The line, cut where it is too long."""
    spans: list[Span] = []
    left = width
    for text, mark in one:
        if left <= 0:
            break
        if len(text) > left or not text.isprintable():
            text = cell(text, min(left, len(text)), cut)
        spans.append(Span(text, mark))
        left -= len(text)
    return tuple(spans)
