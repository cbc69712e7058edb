"""Objects as the kernel reports them, in a dump or a notification: with their table and handle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kpx.kernel.netlink import Message, attributes, string
from kpx.kernel.nft.elements import Element, parse_counters, parse_elements
from kpx.kernel.nft.objects import parse_chain, parse_rule, parse_table
from kpx.kernel.nft.sets import parse_set
from kpx.kernel.nft.wire import MessageType, NfFamily, TableName, unsigned

T = TypeVar("T")

_TABLE, _SET, _ELEMENTS = 1, 2, 3
_PARSERS: dict[int, tuple[Any, int]] = {  # how an object is read, and which attribute is its handle
    MessageType.NEWTABLE: (parse_table, 4),
    MessageType.NEWCHAIN: (parse_chain, 2),
    MessageType.NEWRULE: (parse_rule, 3),
    MessageType.NEWSET: (parse_set, 16),
}
_REMOVED = {  # what nft calls an object, and which attributes are its name and handle
    MessageType.DELTABLE: ("table", 1, 4),
    MessageType.DELCHAIN: ("chain", 3, 2),
    MessageType.DELRULE: ("rule", 2, 3),
    MessageType.DELSET: ("set", 2, 16),
}


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """An object with its table and the kernel's number for it."""

    table: TableName
    handle: int
    value: T


@dataclass(frozen=True, slots=True)
class Name:
    """What the kernel says of an object that is gone. `kind` is nft's word for it; a rule has its chain's `name`."""

    kind: str
    table: TableName
    name: str
    handle: int


@dataclass(frozen=True, slots=True)
class SetElements:
    """Elements of a set, by the set's name."""

    table: TableName
    set: str
    elements: tuple[Element, ...]


def table_name(message: Message, found: dict[int, memoryview]) -> TableName:
    """The table that a message is about."""
    return TableName(NfFamily(message.payload[0]), string(found[_TABLE]))


def read_entry(message: Message) -> Entry[Any]:
    """The table, chain, rule or set in a message that announces it."""
    parse, handle = _PARSERS[message.type & 0xFF]
    found = dict(attributes(message.payload[4:]))
    return Entry(table_name(message, found), unsigned(found[handle]), parse(found))


def read_name(message: Message) -> Name:
    """The table, chain, rule or set that is gone, as a message says."""
    kind, name, handle = _REMOVED[MessageType(message.type & 0xFF)]
    found = dict(attributes(message.payload[4:]))
    return Name(kind, table_name(message, found), string(found[name]), unsigned(found[handle]))


def read_elements(message: Message) -> SetElements:
    """The elements in a message."""
    found = dict(attributes(message.payload[4:]))
    elements = parse_elements(bytes(found.get(_ELEMENTS, _NOTHING)))
    return SetElements(table_name(message, found), string(found[_SET]), tuple(elements))


def read_counters(message: Message) -> Iterator[tuple[bytes, bytes, int]]:
    """Key, data and counted packets of the elements in a message."""
    found = dict(attributes(message.payload[4:]))
    return parse_counters(bytes(found.get(_ELEMENTS, _NOTHING)))


_NOTHING = memoryview(b"")
