"""Durations as Go writes them (``1h30m``, ``24h0m0s``): the form of kube-proxy's configuration and flags."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "\N{MICRO SIGN}s": 1_000,
    "\N{GREEK SMALL LETTER MU}s": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(rf"([0-9]*)(?:\.([0-9]*))?({'|'.join(sorted(_NANOSECONDS, key=len, reverse=True))})")
_LIMIT = 1 << 63  # Go counts in a signed 64-bit number of nanoseconds


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time in whole nanoseconds, which may be negative; false when it is zero."""

    nanoseconds: int = 0

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read Go's form; ValueError if it is none (a bare number has no unit: only ``0`` needs none)."""
        sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
        if body == "0":
            return cls()
        total, position = 0, 0
        while position < len(body):
            part = _PART.match(body, position)
            if part is None or not (part[1] or part[2]):
                raise ValueError(f"{text!r} is not a duration")
            unit, fraction = _NANOSECONDS[part[3]], part[2] or ""
            total += int(part[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
            position = part.end()
        if not body or total > _LIMIT - (sign > 0):
            raise ValueError(f"{text!r} is not a duration")
        return cls(sign * total)

    @property
    def seconds(self) -> float:
        return self.nanoseconds / 1_000_000_000

    def __bool__(self) -> bool:
        return self.nanoseconds != 0

    def __str__(self) -> str:
        """Go's form: the largest unit below a second, else hours, minutes and seconds without a gap."""
        sign, rest = ("-", -self.nanoseconds) if self.nanoseconds < 0 else ("", self.nanoseconds)
        if 0 < rest < _NANOSECONDS["s"]:
            unit = next(unit for unit in ("ms", "\N{MICRO SIGN}s", "ns") if rest >= _NANOSECONDS[unit])
            return f"{sign}{_decimal(rest, _NANOSECONDS[unit])}{unit}"
        minutes, rest = divmod(rest, _NANOSECONDS["m"])
        hours, minutes = divmod(minutes, 60)
        head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{head}{_decimal(rest, _NANOSECONDS['s'])}s"


def _decimal(value: int, unit: int) -> str:
    """`value` in units of `unit` (a power of ten), without trailing zeros."""
    whole, fraction = divmod(value, unit)
    if not fraction:
        return str(whole)
    return f"{whole}.{fraction:0{len(str(unit)) - 1}d}".rstrip("0")
