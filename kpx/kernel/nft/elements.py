"""The elements of sets and maps. A node may hold hundreds of thousands: their bytes are put together by hand.

Layout: ``NFTA_SET_ELEM_*`` in ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from kpx.kernel.netlink import NLA_F_NESTED, attribute, be32, nested
from kpx.kernel.nft.coding import parse_expression, parse_verdict, render_data, render_expression
from kpx.kernel.nft.expressions import Counter, Verdict
from kpx.kernel.nft.objects import comment_attribute
from kpx.kernel.nft.userdata import read_comment
from kpx.kernel.nft.wire import LIST_ELEM, be64

INTERVAL_END = 0x1  # NFT_SET_ELEM_INTERVAL_END: the first key after an interval
CATCH_ALL = 0x2  # NFT_SET_ELEM_CATCHALL: matches where no key does; it has none

_KEY, _DATA, _FLAGS, _TIMEOUT, _EXPIRATION, _USERDATA, _EXPRESSION, _KEY_END = 1, 2, 3, 4, 5, 6, 7, 10
_DATA_VALUE = 1
_CHUNK_BYTES = 60_000  # an attribute's length has 16 bits: elements are split over messages
_TYPE_MASK = 0x3FFF
_HEAD = struct.Struct("=HH")  # length, type
_LISTED = LIST_ELEM | NLA_F_NESTED


class Element(msgspec.Struct, frozen=True, gc=False):
    """An element: its key's bytes (see `sets.pack`) and, in a map, its data.

    `counter` is None where the set has none, or to start at zero. `timeout` and `expires` (what is left of it; only
    read) are in milliseconds. `key_end` ends a range in a concatenation with intervals; in a plain interval set, a
    range is two elements, the second flagged `INTERVAL_END`.
    """

    key: bytes
    data: bytes | Verdict | None = None
    comment: str = ""
    counter: Counter | None = None
    timeout: int = 0
    expires: int = 0
    key_end: bytes = b""
    flags: int = 0


@lru_cache(maxsize=1024)
def _frame(kind: int, length: int) -> tuple[bytes, bytes]:
    """What stands before and after a value of `length` bytes in an attribute of its own."""
    padding = bytes(-length % 4)
    return _HEAD.pack(8 + length + len(padding), kind | NLA_F_NESTED) + _HEAD.pack(4 + length, _DATA_VALUE), padding


@lru_cache(maxsize=1024)
def _verdict(verdict: Verdict) -> bytes:
    return render_data(_DATA, verdict)


@lru_cache(maxsize=1024)
def _comment(comment: str) -> bytes:
    return comment_attribute(_USERDATA, comment)


def render_elements(elements: Iterable[Element], *, keys_only: bool = False) -> Iterator[bytes]:
    """The elements as ``NFTA_LIST_ELEM`` attributes, in pieces that each fit one attribute.

    With `keys_only`, as a deletion needs them: what names an element, without what it holds.
    """
    piece: list[bytes] = []
    size = 0
    for element in elements:
        key = element.key
        before, after = _frame(_KEY, len(key))
        body = before + key + after
        if element.flags or element.key_end:
            body = _render_bounds(element, body)
        if not keys_only:
            body += _render_content(element)
        size += len(body) + 4
        if size > _CHUNK_BYTES:
            yield b"".join(piece)
            piece, size = [], len(body) + 4
        piece.append(_HEAD.pack(len(body) + 4, _LISTED))
        piece.append(body)
    if piece:
        yield b"".join(piece)


def _render_bounds(element: Element, key: bytes) -> bytes:
    if element.flags & CATCH_ALL:
        key = b""
    if element.key_end:
        key += render_data(_KEY_END, element.key_end)
    return key + be32(_FLAGS, element.flags) if element.flags else key


def _render_content(element: Element) -> bytes:
    data = element.data
    content = b""
    if type(data) is bytes:
        before, after = _frame(_DATA, len(data))
        content = before + data + after
    elif isinstance(data, Verdict):
        content = _verdict(data)
    if element.comment:
        content += _comment(element.comment)
    if element.counter is not None:
        content += nested(_EXPRESSION, render_expression(element.counter))
    if element.timeout:
        content += be64(_TIMEOUT, element.timeout)
    if element.expires:
        content += be64(_EXPIRATION, element.expires)
    return content


def parse_elements(data: bytes) -> list[Element]:
    """The elements in the value of ``NFTA_SET_ELEM_LIST_ELEMENTS``."""
    found = []
    head = _HEAD.unpack_from
    offset, end = 0, len(data)
    while offset < end:
        length, _ = head(data, offset)
        stop = offset + length
        at = offset + 4
        values: dict[int, bytes] = {}
        while at < stop:
            length, kind = head(data, at)
            values[kind & _TYPE_MASK] = data[at + 4 : at + length]
            at += length + 3 & ~3
        found.append(_parse_element(values))
        offset = stop + 3 & ~3
    return found


def _parse_element(values: dict[int, bytes]) -> Element:
    """The element whose attributes these are, by type."""
    key = values.get(_KEY, b"")
    data = values.get(_DATA)
    userdata = values.get(_USERDATA)
    expression = values.get(_EXPRESSION)
    common = (
        _read_value(key) if key else b"",
        _read_data(data) if data is not None else None,
        _read_comment(userdata) if userdata is not None else "",
        _read_counter(expression) if expression is not None else None,
    )
    if values.keys() <= _COMMON:
        return Element(*common)
    return Element(
        *common,
        int.from_bytes(values.get(_TIMEOUT, b""), "big"),
        int.from_bytes(values.get(_EXPIRATION, b""), "big"),
        _read_value(values[_KEY_END]) if _KEY_END in values else b"",
        int.from_bytes(values.get(_FLAGS, b""), "big"),
    )


_COMMON = {_KEY, _DATA, _USERDATA, _EXPRESSION}
_COUNTER_HEAD = attribute(1, b"counter\0") + _HEAD.pack(28, 2)  # as the kernel lays a counter out
_COUNTER = struct.Struct(">20xQ4xQ")
_read_comment = lru_cache(maxsize=1024)(read_comment)


def _read_value(nested_value: bytes) -> bytes:
    return nested_value[4 : _HEAD.unpack_from(nested_value)[0]]


def _read_data(data: bytes) -> bytes | Verdict:
    length, kind = _HEAD.unpack_from(data)
    return data[4:length] if kind & _TYPE_MASK == _DATA_VALUE else parse_verdict(data[4:length])


def _read_counter(expression: bytes) -> Counter | None:
    if len(expression) == _COUNTER.size and expression.startswith(_COUNTER_HEAD):
        octets, packets = _COUNTER.unpack(expression)
        return Counter(packets, octets)
    found = parse_expression(memoryview(expression))
    return found if isinstance(found, Counter) else None


def parse_counters(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, data and counted packets of each element in such a value, of a map whose elements have counters.

    For who reads 50,000 of them every second: elements that are laid out as the first one is are read with one struct.
    """
    shape, heads = _shape(data) if data else (_ANY, None)
    unpack, size = shape.unpack_from, shape.size
    offset, end = 0, len(data)
    while offset < end:
        length = _HEAD.unpack_from(data, offset)[0]
        if length >= size:
            key_head, key, data_head, value, counter_head, packets = unpack(data, offset)
        if length >= size and (key_head, data_head, counter_head) == heads:
            yield key, value, packets
        else:
            for one in parse_elements(data[offset : offset + length]):
                if isinstance(one.data, bytes):
                    yield one.key, one.data, one.counter.packets if one.counter else 0
        offset += length + 3 & ~3


def _shape(data: bytes) -> tuple[struct.Struct, tuple[bytes, bytes, bytes] | None]:
    """The layout of the first element, if it is key, data and counter, in this order, and the heads that show it."""
    key = _HEAD.unpack_from(data, 4)[0]
    value = _HEAD.unpack_from(data, 4 + key)[0] if len(data) > 8 + key else 0
    shape = struct.Struct(f">4x8s{key - 8}s8s{value - 8}s24s8x4xQ") if key >= 8 and value >= 8 else _ANY
    if len(data) < shape.size:
        return _ANY, None
    key_head, _, data_head, _, counter_head, _ = shape.unpack_from(data)
    return shape, (key_head, data_head, counter_head) if counter_head[4:].startswith(_COUNTER_HEAD) else None


_ANY = struct.Struct(">4x8s0s8s0s24s8x4xQ")
