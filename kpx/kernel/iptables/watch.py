"""Noticing that somebody else changed iptables rules, without reading the rules.

The nf_tables kernel interface announces every change with the program that made it (``linux/netfilter/nf_tables.h``).
The legacy one announces nothing, but tells how many rules a table has (``linux/netfilter_ipv4/ip_tables.h``).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Protocol

from kpx.kernel.iptables.program import Iptables, Variant
from kpx.kernel.netlink import NETLINK_NETFILTER, Message, Overrun, Socket, attributes, messages, string
from kpx.net import Family

# Whether a chain, given with its table, is one whose changes matter.
Concerns = Callable[[str, str], bool]

_TABLES = ("mangle", "filter", "nat")


class Watch(Protocol):
    """Watches the tables of one family for changes."""

    def changes(self) -> str | None:
        """What changed since the last call of either method, in words, or None."""

    def settle(self) -> None:
        """What changed until now is our own doing: forget it."""

    def close(self) -> None:
        """Stop watching."""


def watch(iptables: Iptables, concerns: Concerns) -> Watch:
    """Watch the tables behind these programs."""
    kind = NftWatch if iptables.variant is Variant.NFT else LegacyWatch
    return kind(iptables.family, concerns)


_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_GENERATION = 15
# Message type -> (what it says, attribute of the table's name, attribute of the chain's name).
_EVENTS = {
    2: ("deleted", 1, 0),
    5: ("deleted", 1, 3),
    6: ("got a rule", 1, 2),
    8: ("lost a rule", 1, 2),
}
# Whole rule sets are announced rule by rule; half a kilobyte each.
_BUFFER = 16 << 20


class NftWatch:
    """Listens to the announcements of nf_tables."""

    def __init__(self, family: Family, concerns: Concerns) -> None:
        self._family = family.af
        self._concerns = concerns
        self._socket = Socket(NETLINK_NETFILTER, groups=(_GROUP_NFTABLES,), receive_buffer=_BUFFER)

    def close(self) -> None:
        self._socket.close()

    def settle(self) -> None:
        for _ in self._received():
            pass

    def changes(self) -> str | None:
        told: dict[str, None] = {}
        uncommitted: dict[str, None] = {}
        try:
            for message in self._received():
                if message.type & 0xFF == _GENERATION:
                    told |= {f"{what}, by {_author(message)}": None for what in uncommitted}
                    uncommitted = {}
                elif what := self._concern(message):
                    uncommitted[what] = None
        except Overrun:
            told["so much that announcements were lost"] = None
        told |= uncommitted
        return "; ".join([*told][:5]) or None

    def _received(self) -> Iterator[Message]:
        while (data := self._socket.receive(timeout=0)) is not None:
            yield from (one for one in messages(data) if one.type >> 8 == _SUBSYSTEM_NFTABLES)

    def _concern(self, message: Message) -> str | None:
        """What an announcement says, if it is of a chain that matters."""
        event = _EVENTS.get(message.type & 0xFF)
        if event is None or message.payload[0] != self._family:
            return None
        what, table_attribute, chain_attribute = event
        found = dict(attributes(message.payload[4:]))
        table = string(found[table_attribute])
        chain = string(found[chain_attribute]) if chain_attribute in found else ""
        if table not in _TABLES or not (self._concerns(table, chain) or not chain):
            return None
        return f"table {table} was {what}" if not chain else f"chain {chain} in table {table} {_was(what)}"


def _was(what: str) -> str:
    return f"was {what}" if what == "deleted" else what


def _author(generation: Message) -> str:
    """The program that committed a generation (NFTA_GEN_PROC_PID, NFTA_GEN_PROC_NAME)."""
    found = dict(attributes(generation.payload[4:]))
    pid, name = (found.get(kind) for kind in (2, 3))
    number = int.from_bytes(pid, "big") if pid else 0
    return f"{string(name) if name else 'a program'}[{number}]"


_SO_GET_INFO = 64
# struct ipt_getinfo: the name (32 bytes), valid_hooks, hook_entry[5], underflow[5], num_entries, size.
_INFO = struct.Struct("=32s 11I 2I")
_LIBC = ctypes.CDLL(None, use_errno=True)


class LegacyWatch:
    """Compares how many rules the tables have."""

    def __init__(self, family: Family, concerns: Concerns) -> None:
        del concerns  # numbers do not tell which chain changed
        self._level = socket.IPPROTO_IP if family is Family.IPV4 else socket.IPPROTO_IPV6
        self._socket = socket.socket(family.af, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        self._known = self._counts()

    def close(self) -> None:
        self._socket.close()

    def settle(self) -> None:
        self._known = self._counts()

    def changes(self) -> str | None:
        before, self._known = self._known, self._counts()
        told = [
            f"table {table} went from {before[table]} to {count} entries"
            for table, count in self._known.items()
            if before[table] != count
        ]
        return "; ".join(told) or None

    def _counts(self) -> dict[str, int]:
        return {table: self._entries(table) for table in _TABLES}

    def _entries(self, table: str) -> int:
        """The number of entries of a table (rules, and one or two for each chain); 0 if there is no such table."""
        buffer = ctypes.create_string_buffer(_INFO.pack(table.encode(), *[0] * 13))
        length = ctypes.c_uint32(_INFO.size)
        fd = self._socket.fileno()
        if _LIBC.getsockopt(fd, self._level, _SO_GET_INFO, buffer, ctypes.byref(length)) < 0:
            if ctypes.get_errno() in (2, 92):  # ENOENT: no such table; ENOPROTOOPT: no x_tables in this kernel
                return 0
            raise OSError(ctypes.get_errno(), f"table {table}: {os.strerror(ctypes.get_errno())}")
        return int(_INFO.unpack(buffer.raw[: _INFO.size])[-2])
