"""Names of Services for the shell to complete: fast or not at all, and without a word."""

from __future__ import annotations

from kpx.tools.cluster import Options, wanted
from kpx.tools.errors import ToolError

_SECONDS = 1.0


def services(beginning: str) -> list[str]:
    """``NAMESPACE/NAME`` of the Services that begin so."""
    try:
        known = wanted(Options(seconds=_SECONDS)).services
    except (ToolError, OSError):
        return []
    return sorted(name for name in map(str, known) if name.startswith(beginning))
