"""Typed values out of YAML nodes, one reader for each type of `kpx.config.types`.

Values are taken from the nodes, not from PyYAML's constructed objects, so that every complaint has its line and a text
that merely looks like a number or a date stays a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeGuard

import yaml

from kpx.config.duration import Duration
from kpx.config.quantity import is_quantity
from kpx.config.types import FlushFrequency, Int32, Quantity, StringList, UInt32, VModule, VModuleItem


class UnexpectedNode(Exception):
    """A node is not what its field takes; ``expected`` says what that would be."""

    def __init__(self, node: yaml.Node, expected: str) -> None:
        super().__init__(expected)
        self.node = node
        self.expected = expected


def line_of(node: yaml.Node) -> int:
    """The line on which a node starts, counted from 1."""
    return int(node.start_mark.line) + 1


def is_null(node: yaml.Node) -> bool:
    return _tag(node) == "null"


def described(node: yaml.Node) -> str:
    """A node in a few words, for a message."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    kinds = {"str": f'the text "{node.value}"', "null": "nothing", "bool": node.value.lower()}
    return str(kinds.get(_tag(node), f"the number {node.value}"))


def read(kind: Any, node: yaml.Node) -> object:
    """The value of a node as a type of `kpx.config.types`, or UnexpectedNode."""
    return _READERS[kind](node)


def _tag(node: yaml.Node) -> str:
    """``str``, ``int``, ``float``, ``bool`` or ``null``, as the configuration takes a scalar; empty for other nodes.

    YAML 1.1 also knows dates and numbers to base 60 (``2001-01-02``, ``1:20``); an address is none of them.
    """
    if not isinstance(node, yaml.ScalarNode):
        return ""
    tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
    return "str" if tag == "timestamp" or (tag in ("int", "float") and ":" in node.value) else tag


def _is(node: yaml.Node, *tags: str) -> TypeGuard[yaml.ScalarNode]:
    return _tag(node) in tags


def _text(node: yaml.Node) -> str:
    if not _is(node, "str"):
        raise UnexpectedNode(node, "a text")
    return str(node.value)


def _bool(node: yaml.Node) -> bool:
    value = _BOOLEANS.get(node.value.lower()) if _is(node, "bool") else None
    if value is None:
        raise UnexpectedNode(node, "true or false")
    return value


_BOOLEANS: Mapping[str, bool] = yaml.constructor.SafeConstructor.bool_values


def _whole(lowest: int, highest: int) -> Callable[[yaml.Node], int]:
    def read_whole(node: yaml.Node) -> int:
        with suppress(ValueError):
            if _is(node, "int"):
                value = int(yaml.constructor.SafeConstructor().construct_yaml_int(node))
                if lowest <= value <= highest:
                    return value
        raise UnexpectedNode(node, f"a whole number from {lowest} to {highest}")

    return read_whole


_int32 = _whole(-(1 << 31), (1 << 31) - 1)
_int64 = _whole(-(1 << 63), (1 << 63) - 1)
_uint32 = _whole(0, (1 << 32) - 1)


def _float(node: yaml.Node) -> float:
    with suppress(ValueError):
        if _is(node, "int", "float"):
            value = float(yaml.constructor.SafeConstructor().construct_yaml_float(node))
            if math.isfinite(value):
                return value
    raise UnexpectedNode(node, "a number")


def _duration(node: yaml.Node) -> Duration:
    with suppress(ValueError):
        if _is(node, "str"):
            return Duration.parse(node.value)
    raise UnexpectedNode(node, 'a duration such as "30s" or "1h15m"')


def _flush_frequency(node: yaml.Node) -> Duration:
    return Duration(_int64(node)) if _is(node, "int") else _duration(node)


def _quantity(node: yaml.Node) -> str:
    if _is(node, "str", "int", "float") and is_quantity(node.value):
        return str(node.value)
    raise UnexpectedNode(node, 'a quantity such as "64Ki"')


def _strings(node: yaml.Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise UnexpectedNode(node, "a list of texts")
    return tuple(map(_text, node.value))


def _gates(node: yaml.Node) -> dict[str, bool]:
    if not isinstance(node, yaml.MappingNode):
        raise UnexpectedNode(node, "a mapping of feature gates to true or false")
    return {_text(key): _bool(value) for key, value in node.value}


def _vmodule(node: yaml.Node) -> VModule:
    if not isinstance(node, yaml.SequenceNode):
        raise UnexpectedNode(node, "a list of filePattern and verbosity")
    return tuple(map(_vmodule_item, node.value))


def _vmodule_item(node: yaml.Node) -> VModuleItem:
    values = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
    if values.keys() != {"filePattern", "verbosity"}:
        raise UnexpectedNode(node, "filePattern and verbosity")
    return VModuleItem(file_pattern=_text(values["filePattern"]), verbosity=UInt32(_uint32(values["verbosity"])))


_READERS: dict[Any, Callable[[yaml.Node], object]] = {
    str: _text,
    bool: _bool,
    float: _float,
    Int32: _int32,
    UInt32: _uint32,
    Duration: _duration,
    FlushFrequency: _flush_frequency,
    Quantity: _quantity,
    StringList: _strings,
    dict[str, bool]: _gates,
    VModule: _vmodule,
}
