"""The signs that are drawn: in Unicode, or in ASCII for terminals and fonts that have no more. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of signs. ``sparks`` go from low to high."""

    rising: str
    falling: str
    cut: str
    crumb: str
    full: str
    empty: str
    sparks: str
    branch: str
    last: str
    stem: str
    alarm: str


UNICODE = Glyphs("▲", "▼", "…", "›", "█", "░", "▁▂▃▄▅▆▇█", "├─ ", "└─ ", "│  ", "▲")  # noqa: RUF001
ASCII = Glyphs("^", "v", "~", ">", "#", ".", "_.-:=+*#", "|- ", "`- ", "|  ", "!")


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """The last `width` values as a line of signs, from 0 to the largest of them."""
    shown = values[-width:]
    top, levels = max(shown, default=0.0), len(glyphs.sparks) - 1
    return "".join(glyphs.sparks[round(levels * max(one, 0.0) / top) if top else 0] for one in shown)


def gauge(part: float, width: int, glyphs: Glyphs) -> str:
    """A bar of `width` signs of which `part` (0 to 1) is full; what is not quite empty shows."""
    filled = min(width, max(round(part * width), 1 if part > 0 else 0))
    return glyphs.full * filled + glyphs.empty * (width - filled)
