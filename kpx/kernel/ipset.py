"""IP sets of the kernel: made, filled in pipelines of requests, and read back.

Layouts: ``linux/netfilter/ipset/ip_set.h``. Only the types that a service proxy uses.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from kpx.kernel.netlink import (
    NETLINK_NETFILTER,
    NetlinkError,
    Refusal,
    Request,
    Socket,
    attribute,
    attributes,
    nested,
    read_whole,
    string,
    text,
)
from kpx.net import Family, packed

# The longest name of a set, in bytes (IPSET_MAXNAMELEN without the terminating NUL).
NAME_MAX = 31

_SUBSYSTEM = 6 << 8
_PROTOCOL = 6  # what every kernel since 2.6.39 speaks


class _Command(IntEnum):
    PROTOCOL = 1
    CREATE = 2
    DESTROY = 3
    LIST = 7
    ADD = 9
    DEL = 10
    TEST = 11


_ATTR_PROTOCOL, _ATTR_NAME, _ATTR_TYPE, _ATTR_REVISION, _ATTR_FAMILY = 1, 2, 3, 4, 5
_ATTR_FLAGS, _ATTR_DATA, _ATTR_ADT = 6, 7, 8
# In an entry, or the parameters of a set.
_IP, _CIDR, _PORT, _PORT_TO, _PROTO = 1, 3, 4, 5, 7
_HASH_SIZE, _MAX_ELEMENTS, _ELEMENTS, _REFERENCES = 18, 19, 24, 25
_IP2, _CIDR2 = 20, 21
_IPV4, _IPV6 = 1, 2
_NETWORK_ORDER = 0x4000

_NFGENMSG = struct.pack(">BBH", socket.AF_INET, 0, 0)
_LIST_HEADER_ONLY = 1 << 2

# The revision that is asked for decides what the ipset program of a node can list: each is older than Linux 4.0.
_REVISIONS = {"hash:ip": 4, "hash:ip,port": 5, "hash:ip,port,ip": 5, "hash:ip,port,net": 7, "bitmap:port": 3}
_BUCKETS = 1024
_MOST_ENTRIES = 65536
_PORTS = (0, 65535)

_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOL_NUMBERS.items()}

# Errors of IP sets that are no errno (IPSET_ERR_*).
NO_SUCH_TYPE, IN_USE, NOT_IN, FULL = 4098, 4100, 4103, 4352
_WORDS = {
    4097: "the kernel speaks another version of the protocol",
    NO_SUCH_TYPE: "the kernel has no such type of set",
    4099: "there are as many sets as the kernel can have",
    IN_USE: "it is in use",
    4102: "it is there with another type",
    NOT_IN: "it is there already",
    FULL: f"it is full ({_MOST_ENTRIES} entries)",
}


class IpsetUnavailable(Exception):
    """The kernel has no IP sets, and cannot load them."""


class SetSpec(NamedTuple):
    """A set: its name, its type (``hash:ip,port``) and the family of its addresses."""

    name: str
    type: str
    family: Family


class Entry(NamedTuple):
    """An entry: those fields that the type of its set has. ``second`` is an address, or a network."""

    address: str = ""
    protocol: str = ""
    port: int = 0
    second: str = ""

    def __str__(self) -> str:
        """As the ipset program writes it: ``10.0.0.1,tcp:80,10.0.0.1``, or ``30080``."""
        if not self.address:
            return str(self.port)
        port = f"{self.protocol}:{self.port}" if self.protocol else ""
        return ",".join(filter(None, (self.address, port, self.second)))


class Header(NamedTuple):
    """What the kernel says of a set without its entries. ``references`` are the rules that use it."""

    name: str
    type: str
    family: Family | None
    elements: int
    references: int

    def fits(self, spec: SetSpec) -> bool:
        """Whether it can hold what the set of that description can."""
        return self.type == spec.type and self.family in (None, spec.family)


class Change(NamedTuple):
    """An entry to add to a set, or to take out of it. Nothing happens where that is so already."""

    set: str
    entry: Entry
    add: bool = True


def words(code: int) -> str:
    """What an error of this subsystem means: an errno, or a number of its own."""
    return _WORDS.get(code) or os.strerror(code)


class Ipsets:
    """The IP sets of the network namespace of the thread that opens it. Not for several threads at once."""

    def __init__(self) -> None:
        """Raises `IpsetUnavailable`."""
        self._socket = Socket(NETLINK_NETFILTER)
        try:
            self._request(_Command.PROTOCOL, 0, b"", "find the version of IP sets")
        except NetlinkError as error:
            self._socket.close()
            # EINVAL is how nfnetlink answers for a subsystem that the kernel does not have.
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            raise IpsetUnavailable("the kernel has no IP sets (module ip_set)") from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Ipsets:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def create(self, spec: SetSpec) -> None:
        """Make a set; nothing happens if there is one of that type. Raises `NetlinkError` if there is another."""
        parts = (
            text(_ATTR_NAME, spec.name),
            text(_ATTR_TYPE, spec.type),
            attribute(_ATTR_REVISION, bytes([_REVISIONS[spec.type]])),
            attribute(_ATTR_FAMILY, bytes([spec.family.af if spec.type.startswith("hash") else socket.AF_UNSPEC])),
            nested(_ATTR_DATA, *_parameters(spec.type)),
        )
        self._request(_Command.CREATE, 0, b"".join(parts), f"make the IP set {spec.name} ({spec.type})")

    def destroy(self, name: str) -> bool:
        """Remove a set; False if there is none. Raises `NetlinkError` (`IN_USE`) where a rule refers to it."""
        try:
            self._request(_Command.DESTROY, 0, text(_ATTR_NAME, name), f"remove the IP set {name}")
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def headers(self) -> dict[str, Header]:
        """All sets, by name, without their entries."""
        flags = attribute(_ATTR_FLAGS | _NETWORK_ORDER, struct.pack(">I", _LIST_HEADER_ONLY))
        return {one.name: one for payload in self._list(flags) if (one := _header(payload)) is not None}

    def header(self, name: str) -> Header | None:
        """One set without its entries, or None if there is no such set."""
        flags = attribute(_ATTR_FLAGS | _NETWORK_ORDER, struct.pack(">I", _LIST_HEADER_ONLY))
        try:
            found = self._list(text(_ATTR_NAME, name) + flags)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        return next((one for payload in found if (one := _header(payload)) is not None), None)

    def contains(self, name: str, entry: Entry) -> bool:
        """Whether a set holds an entry, or a network that the entry's addresses are in."""
        try:
            self._request(_Command.TEST, 0, _content(name, entry), f"look into the IP set {name}")
        except NetlinkError as error:
            if error.errno == NOT_IN:
                return False
            raise
        return True

    def entries(self, name: str) -> set[Entry] | None:
        """The entries of a set, None if there is no such set."""
        try:
            return {entry for payload in self._list(text(_ATTR_NAME, name)) for entry in _entries(payload)}
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def apply(self, changes: Sequence[Change]) -> dict[int, Refusal]:
        """Make changes in order; return those that the kernel refuses, by place. The others are made all the same."""
        return self._socket.pipeline([Request(_SUBSYSTEM | _command(one), 0, _encoded(one)) for one in changes])

    def _list(self, parts: bytes) -> list[memoryview]:
        kind, request = _SUBSYSTEM | _Command.LIST, _payload(parts)
        return [reply.payload[4:] for reply in read_whole(lambda: self._socket.dump(kind, request, "list IP sets"))]

    def _request(self, command: _Command, flags: int, parts: bytes, what: str) -> None:
        try:
            self._socket.request(_SUBSYSTEM | command, flags, _payload(parts), what)
        except NetlinkError as error:
            raise NetlinkError(error.errno or 0, what, error.detail or words(error.errno or 0)) from error


def _payload(parts: bytes = b"") -> bytes:
    return _NFGENMSG + attribute(_ATTR_PROTOCOL, bytes([_PROTOCOL])) + parts


def _parameters(kind: str) -> list[bytes]:
    if kind.startswith("bitmap"):
        return [_port_part(_PORT, _PORTS[0]), _port_part(_PORT_TO, _PORTS[1])]
    sizes = ((_HASH_SIZE, _BUCKETS), (_MAX_ELEMENTS, _MOST_ENTRIES))
    return [attribute(number | _NETWORK_ORDER, struct.pack(">I", size)) for number, size in sizes]


def _port_part(kind: int, port: int) -> bytes:
    return attribute(kind | _NETWORK_ORDER, struct.pack(">H", port))


def _address_part(kind: int, address: str) -> bytes:
    return nested(kind, attribute((_IPV6 if ":" in address else _IPV4) | _NETWORK_ORDER, packed(address)))


def _command(change: Change) -> _Command:
    return _Command.ADD if change.add else _Command.DEL


def _encoded(change: Change) -> bytes:
    return _payload(_content(change.set, change.entry))


def _content(name: str, entry: Entry) -> bytes:
    """The name of a set, and an entry."""
    parts = []
    if entry.address:
        parts.append(_address_part(_IP, entry.address))
    if entry.port:
        parts.append(_port_part(_PORT, entry.port))
    if entry.protocol:
        parts.append(attribute(_PROTO, bytes([_PROTOCOL_NUMBERS[entry.protocol]])))
    if entry.second:
        address, _, length = entry.second.partition("/")
        parts.append(_address_part(_IP2, address))
        if length:
            parts.append(attribute(_CIDR2, bytes([int(length)])))
    return text(_ATTR_NAME, name) + nested(_ATTR_DATA, *parts)


def _header(payload: memoryview) -> Header | None:
    """The set in an answer; None in those that go on with the entries of a set."""
    values = dict(attributes(payload))
    if _ATTR_DATA not in values:
        return None
    data = dict(attributes(values[_ATTR_DATA]))
    af = values[_ATTR_FAMILY][0] if _ATTR_FAMILY in values else socket.AF_UNSPEC
    return Header(
        name=string(values[_ATTR_NAME]),
        type=string(values[_ATTR_TYPE]),
        family=next((family for family in Family if family.af == af), None),
        elements=_number(data.get(_ELEMENTS)),
        references=_number(data.get(_REFERENCES)),
    )


def _number(value: memoryview | None) -> int:
    return int.from_bytes(value, "big") if value else 0


def _entries(payload: memoryview) -> Iterable[Entry]:
    values = dict(attributes(payload))
    if _ATTR_ADT not in values:
        return
    kind = string(values[_ATTR_TYPE]) if _ATTR_TYPE in values else ""
    for _, data in attributes(values[_ATTR_ADT]):
        yield _entry(dict(attributes(data)), network="net" in kind)


def _entry(values: dict[int, memoryview], *, network: bool) -> Entry:
    second = _address(values[_IP2]) if _IP2 in values else ""
    if second and (network or _CIDR2 in values):
        # The kernel leaves out the length of a network that is a single address.
        second += f"/{values[_CIDR2][0] if _CIDR2 in values else 128 if ':' in second else 32}"
    number = values[_PROTO][0] if _PROTO in values else 0
    return Entry(
        address=_address(values[_IP]) if _IP in values else "",
        protocol=_PROTOCOL_NAMES.get(number, str(number)) if number else "",
        port=_number(values.get(_PORT)),
        second=second,
    )


def _address(value: memoryview) -> str:
    ((kind, address),) = attributes(value)
    return socket.inet_ntop(socket.AF_INET6 if kind == _IPV6 else socket.AF_INET, address)
