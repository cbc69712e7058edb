"""What every nftables message shares: families, table names, message numbers and the header after netlink's own.

Layouts: ``linux/netfilter/nfnetlink.h``, ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from kpx.kernel.netlink import attribute

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN = 0x10  # NFNL_MSG_BATCH_BEGIN
BATCH_END = 0x11
BATCH_GENERATION = 1  # NFNL_BATCH_GENID
LIST_ELEM = 1  # NFTA_LIST_ELEM

_HEADER = struct.Struct(">BBH")  # family, version, resource


class NfFamily(IntEnum):
    """The family of a table (NFPROTO_*); `nft_name` is its name in nft's language."""

    UNSPEC = 0
    INET = 1
    IP = 2
    ARP = 3
    NETDEV = 5
    BRIDGE = 7
    IP6 = 10

    @property
    def nft_name(self) -> str:
        return self.name.lower()


class TableName(NamedTuple):
    """A table's family and name; written as nft writes it: ``ip kpx``."""

    family: NfFamily
    name: str

    def __str__(self) -> str:
        return f"{self.family.nft_name} {self.name}"


class MessageType(IntEnum):
    """NFT_MSG_*; a message's type is this number in the subsystem's range."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    GETCHAIN = 4
    DELCHAIN = 5
    NEWRULE = 6
    GETRULE = 7
    DELRULE = 8
    NEWSET = 9
    GETSET = 10
    DELSET = 11
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    NEWGEN = 15
    GETGEN = 16
    TRACE = 17

    @property
    def number(self) -> int:
        """The type in a netlink message's header."""
        return SUBSYSTEM << 8 | self


def header(family: int, resource: int = 0) -> bytes:
    """``struct nfgenmsg``."""
    return _HEADER.pack(family, 0, resource)


def be64(kind: int, value: int) -> bytes:
    """An unsigned 64-bit attribute in network order."""
    return attribute(kind, value.to_bytes(8, "big"))


def unsigned(value: memoryview) -> int:
    """The number in an attribute in network order, of any length."""
    return int.from_bytes(value, "big")
