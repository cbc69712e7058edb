"""The values of flags: texts to values as Go's flag library reads them, and back.

The readers raise ValueError with the reason.
"""

from __future__ import annotations

import csv
import math
import re
from contextlib import suppress
from typing import Any

from kpx.config.addresses import split_host_port
from kpx.config.duration import Duration
from kpx.config.quantity import is_quantity
from kpx.config.types import UInt32, VModule, VModuleItem
from kpx.net import canonical_ip

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def boolean(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("it must be true or false")


def int32(text: str) -> int:
    """A whole number of 32 bits, also in Go's hexadecimal, octal (``0o17``, ``017``) and binary forms."""
    with suppress(ValueError):
        value = int(re.sub(r"^([+-]?)0(?=[0-7_])", r"\g<1>0o", text), 0)
        if -(1 << 31) <= value < 1 << 31 and text.strip() == text:
            return value
    raise ValueError("it must be a whole number of 32 bits")


def uint32(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 32:
        return int(text)
    raise ValueError("it must be a whole number of 32 bits, 0 or more")


def number(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if math.isfinite(value) and text.strip() == text:
            return value
    raise ValueError("it must be a number")


def duration(text: str) -> Duration:
    with suppress(ValueError):
        return Duration.parse(text)
    raise ValueError('it must be a duration such as "30s" or "1h15m"')


def strings(text: str) -> tuple[str, ...]:
    """A list with commas between, quoted as in CSV."""
    return tuple(next(csv.reader([text]), ()))


def gates(text: str) -> dict[str, bool]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    with suppress(ValueError):
        return {name.strip(): boolean(value.strip()) for name, _, value in pairs}
    raise ValueError("it must be Name=true or Name=false, with commas between")


def vmodule(text: str) -> VModule:
    pairs = [pair.partition("=") for pair in text.split(",") if pair]
    with suppress(ValueError):
        if all(pattern for pattern, _, _ in pairs):
            return tuple(VModuleItem(file_pattern=name, verbosity=UInt32(uint32(level))) for name, _, level in pairs)
    raise ValueError("it must be pattern=N, with commas between")


def quantity(text: str) -> str:
    if is_quantity(text):
        return text
    raise ValueError('it must be a quantity such as "64Ki"')


def ip(text: str) -> str:
    """An IP address; an empty text is taken too, and means the default."""
    if text and canonical_ip(text) is None:
        raise ValueError(f'"{text}" is not a valid IP address')
    return text


def ip_port(text: str) -> str:
    """An IP address, with or without a port; an empty text is taken too, and means the default."""
    if not text or canonical_ip(text) is not None:
        return text
    host, port = split_host_port(text)
    ip(host or "no text")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f'"{port}" is not a valid port')
    return text


def version(text: str) -> str:
    """``true``, ``false`` or ``raw``."""
    if text == "raw":
        return text
    return show_boolean(boolean(text))


def show_boolean(value: object) -> str:
    return str(value).lower()


def show_number(value: object) -> str:
    return f"{value:g}"


def show_strings(value: Any) -> str:
    return f"[{','.join(value)}]"


def show_gates(value: Any) -> str:
    return ",".join(f"{name}={show_boolean(on)}" for name, on in sorted(value.items()))


def show_vmodule(value: Any) -> str:
    return ",".join(f"{item.file_pattern}={item.verbosity}" for item in value)


def joined(earlier: Any, later: Any) -> Any:
    return (*earlier, *later)


def updated(earlier: Any, later: Any) -> Any:
    return {**earlier, **later}
