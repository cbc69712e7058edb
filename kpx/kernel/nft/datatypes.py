"""nft's data types: how a value is written in a register, a set's key or its data, and how nft prints it.

Numbers, lengths and byte orders are nft's own (``enum datatypes`` in its ``datatype.h``): the kernel keeps them with a
set so that nft can print it.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

VERDICT_TYPE = 0xFFFFFF00  # NFT_DATA_VERDICT: the type of a verdict map's data


class ByteOrder(IntEnum):
    """nft's ``enum byteorder``; some types and every concatenation have none."""

    NONE = 0
    HOST = 1
    BIG = 2


@dataclass(frozen=True, slots=True)
class DataType:
    """A type by its name and number in nft, and its length in bytes. This base is a number, printed in hexadecimal."""

    name: str
    number: int
    length: int
    byteorder: ByteOrder

    @property
    def type(self) -> DataType:
        """Itself: a set's key may be made of types or of selectors, which have a type."""
        return self

    @property
    def words(self) -> int:
        """How many 4-byte registers a value takes."""
        return (self.length + 3) // 4

    @property
    def _order(self) -> Literal["little", "big"]:
        return sys.byteorder if self.byteorder is ByteOrder.HOST else "big"

    def pack(self, value: str | int) -> bytes:
        """The bytes of a value, given as nft prints it or as a number. Raises ValueError if it is none of this type."""
        try:
            return self._encode(value)
        except (KeyError, OSError, OverflowError, ValueError) as error:
            raise ValueError(f"{value!r} is no {self.name}") from error

    def _encode(self, value: str | int) -> bytes:
        return (value if isinstance(value, int) else int(value, 0)).to_bytes(self.length, self._order)

    def text(self, data: bytes) -> str:
        """A value as nft prints it."""
        return f"0x{int.from_bytes(data, self._order):0{self.length * 2}x}"


@dataclass(frozen=True, slots=True)
class NumberType(DataType):
    """A number with names for some values; of a `bitmask`, each named value is one bit."""

    names: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    bitmask: bool = False

    def _encode(self, value: str | int) -> bytes:
        if isinstance(value, str) and self.bitmask:
            value = sum(self.names[name] for name in value.split(","))
        elif isinstance(value, str) and value in self.names:
            value = self.names[value]
        return DataType._encode(self, value)

    def text(self, data: bytes) -> str:
        number = int.from_bytes(data, self._order)
        if self.bitmask:
            return ",".join(name for name, bit in self.names.items() if number & bit) or hex(number)
        return next((name for name, named in self.names.items() if named == number), str(number))


@dataclass(frozen=True, slots=True)
class AddressType(DataType):
    """An IPv4 or IPv6 address."""

    def _encode(self, value: str | int) -> bytes:
        return socket.inet_pton(socket.AF_INET if self.length == 4 else socket.AF_INET6, str(value))

    def text(self, data: bytes) -> str:
        return socket.inet_ntop(socket.AF_INET if self.length == 4 else socket.AF_INET6, data)


@dataclass(frozen=True, slots=True)
class NameType(DataType):
    """The name of an interface, filled up with NULs."""

    def _encode(self, value: str | int) -> bytes:
        data = str(value).encode()
        if len(data) >= self.length:
            raise ValueError("too long")
        return data.ljust(self.length, b"\0")

    def text(self, data: bytes) -> str:
        return f'"{data.rstrip(bytes(1)).decode(errors="replace")}"'


verdict = DataType("verdict", VERDICT_TYPE, 16, ByteOrder.NONE)
ipv4_addr = AddressType("ipv4_addr", 7, 4, ByteOrder.BIG)
ipv6_addr = AddressType("ipv6_addr", 8, 16, ByteOrder.BIG)
integer = NumberType("integer", 4, 4, ByteOrder.HOST)
inet_service = NumberType("inet_service", 13, 2, ByteOrder.BIG)
mark = DataType("mark", 19, 4, ByteOrder.HOST)
ifname = NameType("ifname", 41, 16, ByteOrder.HOST)
inet_proto = NumberType(
    "inet_proto",
    12,
    1,
    ByteOrder.NONE,
    {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132},
)
nf_proto = NumberType("nf_proto", 2, 1, ByteOrder.NONE, {"ipv4": 2, "ipv6": 10})
fib_addrtype = NumberType(
    "fib_addrtype",
    38,
    4,
    ByteOrder.HOST,
    {"unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6},
)
ct_state = NumberType(
    "ct_state",
    26,
    4,
    ByteOrder.HOST,
    {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 0x40},
    bitmask=True,
)
ct_status = NumberType(
    "ct_status",
    28,
    4,
    ByteOrder.HOST,
    {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 0x10, "dnat": 0x20, "dying": 0x200},
    bitmask=True,
)
ct_dir = NumberType("ct_dir", 27, 1, ByteOrder.NONE, {"original": 0, "reply": 1})

BY_NUMBER: dict[int, DataType] = {
    kind.number: kind
    for kind in (
        verdict,
        ipv4_addr,
        ipv6_addr,
        integer,
        inet_service,
        mark,
        ifname,
        inet_proto,
        nf_proto,
        fib_addrtype,
        ct_state,
        ct_status,
        ct_dir,
    )
}
