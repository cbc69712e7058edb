"""What `kpx top` is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: ``page`` to begin with, ``interval`` in seconds, ``iterations`` readings (0: no end)."""

    page: str = "services"
    interval: float = 1.0
    iterations: int = 0
    once: bool = False
    plain: bool = False
    ascii: bool = False
    mouse: bool = True
