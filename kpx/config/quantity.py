"""Kubernetes quantities (``0``, ``64Ki``, ``1.5M``), as far as the configuration needs them."""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")


def is_quantity(text: str) -> bool:
    return _QUANTITY.fullmatch(text) is not None


def is_zero(quantity: str) -> bool:
    """Whether a quantity is nothing, in whatever unit."""
    match = _QUANTITY.fullmatch(quantity)
    return match is not None and float(match[1]) == 0
