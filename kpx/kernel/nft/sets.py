"""Sets and maps: their declaration as a value, its netlink attributes, and the packing of keys and data.

A map is a set whose elements have data. Layouts: ``linux/netfilter/nf_tables.h``; types and user data: nft 1.0.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

from kpx.kernel.netlink import attribute, attributes, be32, nested, string, text
from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.coding import parse_expression, render_expression
from kpx.kernel.nft.datatypes import ByteOrder, DataType
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.nft.selectors import Field, Selector, selectors_of, typeof_of, typeof_verdict
from kpx.kernel.nft.userdata import SET_COMMENT, USERDATA_BYTES, comment_record, number, read_comment, record, records
from kpx.kernel.nft.wire import LIST_ELEM, TableName, be64, unsigned

_TABLE, _NAME, _FLAGS, _KEY_TYPE, _KEY_LENGTH, _DATA_TYPE, _DATA_LENGTH = 1, 2, 3, 4, 5, 6, 7
_DESCRIPTION, _ID, _TIMEOUT, _USERDATA, _EXPRESSION = 9, 10, 11, 13, 17
_DESC_SIZE, _DESC_CONCAT, _FIELD_LENGTH = 1, 2, 1
_KEY_ORDER, _DATA_ORDER, _KEY_TYPEOF, _DATA_TYPEOF, _DATA_INTERVAL = 0, 1, 3, 4, 6  # NFTNL_UDATA_SET_*
_TYPE_BITS, _TYPE_MASK = 6, 0x3F  # of each type in the number of a concatenation
_MAP, _CONCAT, _EXPRESSIONS = 0x8, 0x80, 0x100  # NFT_SET_*: these follow from a set's other properties


class SetFlag(IntFlag):
    """NFT_SET_*: DYNAMIC is for sets that rules write to; ANONYMOUS and CONSTANT mark the sets inside a rule."""

    NONE = 0
    ANONYMOUS = 0x1
    CONSTANT = 0x2
    INTERVAL = 0x4
    TIMEOUT = 0x10
    DYNAMIC = 0x20
    OBJECT = 0x40


@dataclass(frozen=True, slots=True)
class Set:
    """A set, or with `data` a map. Key and data are concatenations of fields, all types or all selectors (``typeof``).

    `data` of ``(verdict,)`` makes a verdict map. `timeout` is in milliseconds, 0 for none; `counter` gives each element
    a counter; `size` 0 is no limit.
    """

    name: str
    key: tuple[Field, ...]
    data: tuple[Field, ...] = ()
    flags: SetFlag = SetFlag.NONE
    timeout: int = 0
    counter: bool = False
    size: int = 0
    comment: str = ""

    @property
    def key_length(self) -> int:
        """The length of a key in bytes."""
        return _length(self.key)


def pack(fields: Sequence[Field], values: Sequence[str | int]) -> bytes:
    """A key's or data's bytes: each value as nft prints it, the fields of a concatenation padded to 4 bytes."""
    if len(fields) == 1:
        return fields[0].type.pack(values[0])
    packed = (field.type.pack(value) for field, value in zip(fields, values, strict=True))
    return b"".join(part + bytes(-len(part) % 4) for part in packed)


def unpack(fields: Sequence[Field], data: bytes) -> tuple[str, ...]:
    """The values in a key or data, as nft prints them."""
    values, offset = [], 0
    for field in fields:
        values.append(field.type.text(data[offset : offset + field.type.length]))
        offset += field.words * 4
    return tuple(values)


def _length(fields: Sequence[Field]) -> int:
    return fields[0].type.length if len(fields) == 1 else sum(field.words * 4 for field in fields)


def _type_number(fields: Sequence[Field]) -> int:
    total = 0
    for field in fields:
        total = total << _TYPE_BITS | field.type.number
    return total


def render_set(table: TableName, value: Set, identifier: int = 1) -> bytes:
    """The attributes of NFT_MSG_NEWSET; `identifier` is the set's number in its batch."""
    flags = value.flags | (_MAP if value.data else 0)
    description = be32(_DESC_SIZE, value.size) if value.size else b""
    if SetFlag.INTERVAL in value.flags and len(value.key) > 1:
        flags |= _CONCAT
        lengths = (nested(LIST_ELEM, be32(_FIELD_LENGTH, field.type.length)) for field in value.key)
        description += nested(_DESC_CONCAT, *lengths)
    parts = [
        text(_TABLE, table.name),
        text(_NAME, value.name),
        be32(_ID, identifier),
        be32(_FLAGS, flags),
        be32(_KEY_TYPE, _type_number(value.key)),
        be32(_KEY_LENGTH, _length(value.key)),
        attribute(_USERDATA, _render_userdata(value)),
    ]
    if value.data:
        parts += [be32(_DATA_TYPE, _type_number(value.data)), be32(_DATA_LENGTH, _length(value.data))]
    if description:
        parts.append(nested(_DESCRIPTION, description))
    if value.timeout:
        parts.append(be64(_TIMEOUT, value.timeout))
    if value.counter:
        parts.append(nested(_EXPRESSION, render_expression(Counter())))
    return b"".join(parts)


def _render_userdata(value: Set) -> bytes:
    parts = [number(_KEY_ORDER, _byteorder(value.key))]
    key_typeof, data_typeof = typeof_of(value.key), typeof_of(value.data)
    if value.data:
        parts.append(number(_DATA_ORDER, _byteorder(value.data)))
        if value.data == (types.verdict,) and isinstance(value.key[0], Selector):
            data_typeof = typeof_verdict()
    if key_typeof:
        parts.append(record(_KEY_TYPEOF, key_typeof))
    if data_typeof:
        parts.append(record(_DATA_TYPEOF, data_typeof))
    if value.data:
        parts.append(number(_DATA_INTERVAL, 0))
    parts.append(comment_record(value.comment, SET_COMMENT))
    userdata = b"".join(parts)
    if len(userdata) > USERDATA_BYTES:
        raise ValueError(f"the comment of {value.name} leaves no room for its types: {value.comment!r}")
    return userdata


def _byteorder(fields: Sequence[Field]) -> ByteOrder:
    return fields[0].type.byteorder if len(fields) == 1 else ByteOrder.NONE


def parse_set(found: dict[int, memoryview]) -> Set:
    """The set in a message's attributes."""
    userdata = records(found.get(_USERDATA, _NOTHING))
    description = dict(attributes(found.get(_DESCRIPTION, _NOTHING)))
    expression = found.get(_EXPRESSION)
    data: tuple[Field, ...] = ()
    if _DATA_TYPE in found:
        data_typeof = userdata.get(_DATA_TYPEOF, b"")
        data = _fields(unsigned(found[_DATA_TYPE]), unsigned(found[_DATA_LENGTH]), data_typeof)
    return Set(
        string(found[_NAME]),
        _fields(unsigned(found[_KEY_TYPE]), unsigned(found[_KEY_LENGTH]), userdata.get(_KEY_TYPEOF, b"")),
        data,
        SetFlag(unsigned(found.get(_FLAGS, _NOTHING)) & ~(_MAP | _CONCAT | _EXPRESSIONS)),
        unsigned(found.get(_TIMEOUT, _NOTHING)),
        expression is not None and isinstance(parse_expression(expression), Counter),
        unsigned(description.get(_DESC_SIZE, _NOTHING)),
        read_comment(found.get(_USERDATA, _NOTHING), SET_COMMENT),
    )


def _fields(type_number: int, length: int, typeof: bytes) -> tuple[Field, ...]:
    """The selectors that nft would print, or else the types in the number; one without a name if they do not fit."""
    selectors = selectors_of(typeof)
    if selectors is not None and _length(selectors) == length:
        return selectors
    if type_number == types.VERDICT_TYPE:
        return (types.verdict,)
    numbers = [type_number >> shift & _TYPE_MASK for shift in range(0, type_number.bit_length(), _TYPE_BITS)]
    known = [types.BY_NUMBER[each] for each in reversed(numbers) if each in types.BY_NUMBER]
    if known and len(known) == len(numbers) and _length(known) == length:
        return tuple(known)
    return (DataType(f"0x{type_number:x}", type_number, length, ByteOrder.NONE),)


_NOTHING = memoryview(b"")
