"""The configuration as a flat table of paths (``iptables.syncPeriod``), and the way from a table back to the whole.

File and flags both become settings: a mapping from path to value that holds only what the user set. Defaults are what
the structs say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec.structs import FieldInfo

from kpx.config.types import KubeProxyConfiguration

Settings = dict[str, object]
_S = TypeVar("_S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field that is no section: its type (one of `kpx.config.types`) and its static default."""

    type: Any
    default: object


@cache
def fields_of(section: type[msgspec.Struct]) -> Mapping[str, FieldInfo]:
    """The fields of a section by their names in the API."""
    return {field.encode_name: field for field in msgspec.structs.fields(section)}


def is_section(field: FieldInfo) -> bool:
    return isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)


@cache
def leaves() -> Mapping[str, Leaf]:
    """Every field of the configuration by its path, in the order of the structs."""
    return dict(_leaves(KubeProxyConfiguration(), ""))


def build(settings: Mapping[str, object]) -> KubeProxyConfiguration:
    """The configuration with these settings over the static defaults."""
    return _build(KubeProxyConfiguration, settings, "")


def _leaves(defaults: msgspec.Struct, prefix: str) -> Iterator[tuple[str, Leaf]]:
    for name, field in fields_of(type(defaults)).items():
        default = getattr(defaults, field.name)
        if is_section(field):
            yield from _leaves(default, f"{prefix}{name}.")
        else:
            yield prefix + name, Leaf(field.type, default)


def _build(section: type[_S], settings: Mapping[str, object], prefix: str) -> _S:
    values: dict[str, Any] = {}
    for name, field in fields_of(section).items():
        if is_section(field):
            values[field.name] = _build(field.type, settings, f"{prefix}{name}.")
        elif prefix + name in settings:
            values[field.name] = settings[prefix + name]
    return section(**values)
