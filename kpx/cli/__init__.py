"""The command line. A command is one thin function; what it does not need is not imported."""

from __future__ import annotations

from kpx.cli import bundling, lab, proxy, runbooks, screen, tables, tracing
from kpx.cli.application import app

__all__ = ["app", "bundling", "lab", "proxy", "runbooks", "screen", "tables", "tracing"]
