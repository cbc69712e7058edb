"""The one exception of the configuration."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used; the text is the whole message to print, the process ends with status 1."""
