"""The name of this node."""

from __future__ import annotations

from kpx.config.errors import ConfigError


def node_name(override: str, host_name: str) -> str:
    """The name of the Node object: the configured override, else the host's name; trimmed and in lower case."""
    name = (override or host_name).strip().lower()
    if not name:
        raise ConfigError("empty hostname is invalid")
    return name
