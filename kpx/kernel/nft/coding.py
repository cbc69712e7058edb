"""Expressions, verdicts and data to netlink attributes, and back: one table says which field is which attribute.

Layouts: ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

from kpx.kernel.netlink import attribute, attributes, be32, nested, string, text
from kpx.kernel.nft import expressions as ex
from kpx.kernel.nft.expressions import Expression, Unknown, Verdict, VerdictCode
from kpx.kernel.nft.wire import be64, unsigned

_EXPR_NAME, _EXPR_DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_REG_VERDICT, _REG_1, _REG32_00 = 0, 1, 8
_NAT_IMPLIED_FLAGS = 3  # an address and a port are given: the kernel adds these by itself


@lru_cache(maxsize=65536)
def render_verdict(verdict: Verdict) -> bytes:
    """A verdict as data (NFTA_DATA_VERDICT)."""
    code = attribute(_VERDICT_CODE, int(verdict.code).to_bytes(4, "big", signed=True))
    return nested(_DATA_VERDICT, code, text(_VERDICT_CHAIN, verdict.chain) if verdict.chain else b"")


@lru_cache(maxsize=65536)
def parse_verdict(data: bytes) -> Verdict:
    """The verdict in the value of NFTA_DATA_VERDICT."""
    found = dict(attributes(memoryview(data)))
    chain = string(found[_VERDICT_CHAIN]) if _VERDICT_CHAIN in found else ""
    return Verdict(VerdictCode(int.from_bytes(found[_VERDICT_CODE], "big", signed=True)), chain)


def render_data(kind: int, data: bytes | Verdict) -> bytes:
    """A value or verdict in an attribute of its own."""
    return nested(kind, render_verdict(data) if isinstance(data, Verdict) else attribute(_DATA_VALUE, data))


def parse_data(view: memoryview) -> bytes | Verdict:
    """The value or verdict in such an attribute."""
    kind, value = next(attributes(view))
    return parse_verdict(bytes(value)) if kind == _DATA_VERDICT else bytes(value)


def _render_register(kind: int, word: int) -> bytes:
    """As the kernel itself writes it: by the old 16-byte registers where the word begins one."""
    if word == ex.VERDICT:
        return be32(kind, _REG_VERDICT)
    return be32(kind, word // 4 + _REG_1 if word % 4 == 0 else word + _REG32_00)


def _parse_register(view: memoryview) -> int:
    register = unsigned(view)
    if register >= _REG32_00:
        return register - _REG32_00
    return (register - _REG_1) * 4 if register else ex.VERDICT


class _Coding(NamedTuple):
    """How one kind of attribute is written and read."""

    render: Callable[[int, Any], bytes]
    parse: Callable[[memoryview], Any]


_U8 = _Coding(lambda kind, value: attribute(kind, bytes((value,))), unsigned)
_U32 = _Coding(be32, unsigned)
_U64 = _Coding(be64, unsigned)
_TEXT = _Coding(text, string)
_DATA = _Coding(render_data, parse_data)
_REGISTER = _Coding(_render_register, _parse_register)
_NAT_FLAGS = _Coding(be32, lambda view: unsigned(view) & ~_NAT_IMPLIED_FLAGS)
_NESTED = _Coding(lambda kind, value: nested(kind, render_expression(value)), lambda view: parse_expression(view))


@dataclass(frozen=True, slots=True)
class _Layout:
    """An expression in the kernel: its name, its fields' attributes, and the attributes to pass over.

    `twins` are attributes that say a field once more (a range's end, equal to its begin). `silent` ones carry nothing
    while they are zero: padding, and operations that only other values would need.
    """

    name: str
    slots: dict[str, tuple[int, _Coding]]
    twins: dict[str, int]
    silent: tuple[int, ...]


def _layout(name: str, silent: tuple[int, ...] = (), *, twins: dict[str, int] | None = None, **slots: Any) -> _Layout:
    return _Layout(name, slots, twins or {}, silent)


_LAYOUTS: dict[type[Any], _Layout] = {
    ex.Payload: _layout("payload", base=(2, _U32), offset=(3, _U32), length=(4, _U32), target=(1, _REGISTER)),
    ex.Meta: _layout("meta", key=(2, _U32), target=(1, _REGISTER), source=(3, _REGISTER)),
    ex.Ct: _layout("ct", key=(2, _U32), target=(1, _REGISTER), source=(4, _REGISTER), direction=(3, _U8)),
    ex.Fib: _layout("fib", result=(2, _U32), flags=(3, _U32), target=(1, _REGISTER)),
    ex.Numgen: _layout("numgen", modulus=(2, _U32), type=(3, _U32), offset=(4, _U32), target=(1, _REGISTER)),
    ex.Cmp: _layout("cmp", op=(2, _U32), value=(3, _DATA), source=(1, _REGISTER)),
    ex.Range: _layout("range", op=(2, _U32), first=(3, _DATA), last=(4, _DATA), source=(1, _REGISTER)),
    ex.Bitwise: _layout(
        "bitwise",
        silent=(6,),
        mask=(4, _DATA),
        xor=(5, _DATA),
        length=(3, _U32),
        source=(1, _REGISTER),
        target=(2, _REGISTER),
    ),
    ex.Lookup: _layout("lookup", set=(1, _TEXT), source=(2, _REGISTER), target=(3, _REGISTER), flags=(5, _U32)),
    ex.Dynset: _layout(
        "dynset",
        silent=(8,),
        set=(1, _TEXT),
        op=(3, _U32),
        key=(4, _REGISTER),
        data=(5, _REGISTER),
        timeout=(6, _U64),
        expression=(7, _NESTED),
        flags=(9, _U32),
    ),
    ex.Immediate: _layout("immediate", data=(2, _DATA), target=(1, _REGISTER)),
    ex.Nat: _layout(
        "nat",
        twins={"address": 4, "port": 6},
        type=(1, _U32),
        family=(2, _U32),
        address=(3, _REGISTER),
        port=(5, _REGISTER),
        flags=(7, _NAT_FLAGS),
    ),
    ex.Masquerade: _layout("masq", flags=(1, _U32)),
    ex.Reject: _layout("reject", type=(1, _U32), code=(2, _U8)),
    ex.Counter: _layout("counter", silent=(3,), packets=(2, _U64), bytes=(1, _U64)),
    ex.Limit: _layout(
        "limit", silent=(6,), rate=(1, _U64), unit=(2, _U64), burst=(3, _U32), type=(4, _U32), flags=(5, _U32)
    ),
}
_CLASSES = {layout.name: cls for cls, layout in _LAYOUTS.items()}
_REQUIRED = {cls: {field.name for field in fields(cls) if field.default is MISSING} for cls in _LAYOUTS}


def render_expression(expression: Expression) -> bytes:
    """The attributes of ``NFTA_LIST_ELEM``: an expression's name and data."""
    if isinstance(expression, Unknown):
        return text(_EXPR_NAME, expression.kind) + nested(_EXPR_DATA, expression.data)
    layout = _LAYOUTS[type(expression)]
    parts = []
    for name, (kind, coding) in layout.slots.items():
        value = getattr(expression, name)
        if value is not None:
            parts.append(coding.render(kind, value))
            if name in layout.twins:
                parts.append(coding.render(layout.twins[name], value))
    return text(_EXPR_NAME, layout.name) + nested(_EXPR_DATA, *parts)


def parse_expression(view: memoryview) -> Expression:
    """The expression in a ``NFTA_LIST_ELEM``; `Unknown` where a known one cannot say all that is there."""
    found = dict(attributes(view))
    name = string(found[_EXPR_NAME])
    data = found.get(_EXPR_DATA, memoryview(b""))
    cls = _CLASSES.get(name)
    values = _values(cls, dict(attributes(data))) if cls else None
    if cls is None or values is None:
        return Unknown(name, bytes(data))
    expression: Expression = cls(**values)
    return expression


def _values(cls: type[Any], found: dict[int, memoryview]) -> dict[str, Any] | None:
    """The fields' values; None if one is missing, a twin differs, or there is something that no field holds."""
    layout = _LAYOUTS[cls]
    values = {}
    for name, (kind, coding) in layout.slots.items():
        view = found.pop(kind, None)
        if name in layout.twins and found.pop(layout.twins[name], None) != view:
            return None
        if view is not None:
            values[name] = coding.parse(view)
    for kind in layout.silent:
        if not any(found.get(kind, b"")):
            found.pop(kind, None)
    return None if found or _REQUIRED[cls] - values.keys() else values
