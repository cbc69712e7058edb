"""A configuration file to settings: strict first, then lenient, as kube-proxy reads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kpx.config.decoding import Problem, decode
from kpx.config.errors import ConfigError
from kpx.config.schema import Settings


def load(path: Path) -> tuple[Settings, list[str]]:
    """The settings in a file, and a warning if it was only read leniently; ConfigError if it cannot be used at all."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or 'it cannot be read').lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"failed to decode: {path}: byte {error.start} is not UTF-8 text") from error
    decoded = decode(text)
    if decoded.fatal:
        raise ConfigError(f"failed to decode: {_listed(path, decoded.fatal + decoded.strict)}")
    if decoded.strict:
        reasons = _listed(path, decoded.strict)
        return decoded.settings, [f"Using lenient decoding as strict decoding failed: {reasons}"]
    return decoded.settings, []


def _listed(path: Path, problems: Iterable[Problem]) -> str:
    return "; ".join(f"{path}:{problem.line}: {problem.text}" for problem in sorted(problems))
