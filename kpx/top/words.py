"""Numbers, times and names as they stand in narrow columns. Pure."""

from __future__ import annotations

import math
from datetime import datetime

_UNITS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def number(value: float | None) -> str:
    """``999``, ``1.2k``, ``34M``; ``-`` for what is not known."""
    if value is None:
        return "-"
    for size, unit in _UNITS:
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def rate(value: float | None) -> str:
    """What came a second: with one decimal while it is small."""
    if value is None:
        return "-"
    return f"{value:.1f}" if 0 < value < 10 else number(value)


def duration(seconds: float | None) -> str:
    """``0.4s``, ``12s``, ``3min``, ``5h``, ``2d``; ``-`` for what is not known, or never comes."""
    if seconds is None or math.isinf(seconds):
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def took(seconds: float) -> str:
    """What work took, to two digits or more: ``0.2ms``, ``17ms``, ``1.4s``, ``12s``."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f}ms"
    return f"{seconds:.1f}s" if 0.9995 <= seconds < 9.95 else duration(seconds)


def moment(text: str) -> float | None:
    """An RFC 3339 time as Unix seconds; None for none."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def clock(seconds: float | None) -> str:
    """The time of day, by the node's clock."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds).strftime("%H:%M:%S")
