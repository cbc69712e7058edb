"""A configuration written out: as kube-proxy's ``--write-config-to`` writes it, and as ``/configz`` shows it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import yaml

from kpx.config.duration import Duration
from kpx.config.errors import ConfigError
from kpx.config.schema import fields_of
from kpx.config.types import KubeProxyConfiguration

_SEPARATORS = frozenset("\x85\u2028\u2029")
_LEFT_OUT_WHEN_EMPTY = frozenset({"featureGates", "splitStream", "vmodule", "windowsRunAsService"})


def document(config: KubeProxyConfiguration) -> dict[str, object]:
    """The configuration in the API's form, of plain types."""
    return _section(config)


def to_yaml(config: KubeProxyConfiguration) -> str:
    """The configuration as YAML, keys in order, texts quoted as kube-proxy quotes them."""
    text: str = yaml.dump(
        document(config), Dumper=_Dumper, default_flow_style=False, sort_keys=True, allow_unicode=True, width=math.inf
    )
    return text


def configz(config: KubeProxyConfiguration) -> str:
    """The page ``/configz``."""
    return json.dumps({"kubeproxy.config.k8s.io": document(config)}, separators=(",", ":"), sort_keys=True)


def write(config: KubeProxyConfiguration, path: Path) -> None:
    """Write a configuration to a file (``--write-config-to``); ConfigError if that fails."""
    try:
        path.write_text(to_yaml(config), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or 'it cannot be written').lower()}") from error


def _section(section: msgspec.Struct) -> dict[str, object]:
    values = {name: getattr(section, field.name) for name, field in fields_of(type(section)).items()}
    return {name: _plain(value) for name, value in values.items() if value or name not in _LEFT_OUT_WHEN_EMPTY}


def _plain(value: object) -> object:
    match value:
        case msgspec.Struct():
            return _section(value)
        case Duration():
            return str(value)
        case tuple():
            return [_plain(item) for item in value] or None
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


class _Dumper(yaml.SafeDumper):
    """Writes a text that would be read as something else (or as nothing) in double quotes."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    read_as = dumper.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    # Unquoted, line separators that are not ASCII are read back as spaces.
    plain = read_as == yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG and _SEPARATORS.isdisjoint(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
