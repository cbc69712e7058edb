"""Noticing that somebody else changed iptables rules, without reading the rules.

The nf_tables kernel interface announces every change with the program that made it (``linux/netfilter/nf_tables.h``).
The legacy one announces nothing, but tells how many entries a table has (``linux/netfilter_ipv4/ip_tables.h``).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from kpx.kernel.iptables.program import Iptables, Variant
from kpx.kernel.netlink import NETLINK_NETFILTER, Message, Overrun, Socket, attributes, messages, string
from kpx.net import Family

# Whether a change of a chain matters: its table, its name, and whether it lost something (or got a rule).
Concerns = Callable[[str, str, bool], bool]

_TABLES = ("mangle", "filter", "nat")


class Watch(Protocol):
    """Watches the tables of one family for changes."""

    def changes(self, own: int | None = None) -> str | None:
        """What others changed since the last call, in words, or None.

        `own` is the id of the process that has changed the tables for us since then.
        """

    def close(self) -> None:
        """Stop watching."""


def watch(iptables: Iptables, concerns: Concerns) -> Watch:
    """Watch the tables behind these programs."""
    if iptables.variant is Variant.LEGACY:
        return LegacyWatch(iptables.family)
    return NftWatch(iptables.family, concerns, iptables.program("restore"))


_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_GENERATION = 15
# Message type -> (what it says, attribute of the table's name, attribute of the chain's name).
_GOT_A_RULE = 6
_EVENTS = {
    2: ("deleted", 1, 0),
    5: ("deleted", 1, 3),
    _GOT_A_RULE: ("got a rule", 1, 2),
    8: ("lost a rule", 1, 2),
}
_NAME_LENGTH = 15  # of a program's name in the kernel
# Whole rule sets are announced rule by rule, half a kilobyte each; what is not received takes no memory.
_BUFFER = 128 << 20


class NftWatch:
    """Listens to the announcements of nf_tables. `program` is the one that changes the tables for us."""

    def __init__(self, family: Family, concerns: Concerns, program: str) -> None:
        self._family = family.af
        self._program = program[:_NAME_LENGTH]
        self._concerns = concerns
        self._socket = Socket(NETLINK_NETFILTER, groups=(_GROUP_NFTABLES,), receive_buffer=_BUFFER)

    def close(self) -> None:
        self._socket.close()

    def changes(self, own: int | None = None) -> str | None:
        told: dict[str, None] = {}
        by: dict[str, list[Message]] = {}
        uncommitted: list[Message] = []
        try:
            for message in self._received():
                if message.type & 0xFF == _GENERATION:
                    by.setdefault(_author(message), []).extend(uncommitted)
                    uncommitted = []
                elif message.payload[0] == self._family:
                    uncommitted.append(message)
        except Overrun:
            told["so much that announcements were lost"] = None
        # Our own announcements can be a hundred thousand; they are not looked into.
        known = own is not None and by.pop(f"{self._program}[{own}]", None) is not None
        changed = {author: changes for author, found in by.items() if (changes := self._concerns_of(found))}
        if own is not None and not known:
            changed.pop(self._namesake(changed), None)
        told |= {f"{what}, by {author}": None for author, changes in changed.items() for what in changes}
        told |= self._concerns_of(uncommitted)
        return "; ".join([*told][:5]) or None

    def _namesake(self, authors: Iterable[str]) -> str:
        """Who of the authors is our own process, where none has its id: who alone has the name of our program.

        The kernel tells the ids of the first PID namespace, and we may live in another one.
        """
        of_name = [author for author in authors if author.startswith(f"{self._program}[")]
        return of_name[0] if len(of_name) == 1 else ""

    def _concerns_of(self, announcements: list[Message]) -> dict[str, None]:
        """What announcements say of chains that matter, each thing once."""
        return {what: None for one in announcements if (what := self._concern(one))}

    def _received(self) -> Iterator[Message]:
        while (data := self._socket.receive(timeout=0)) is not None:
            yield from (one for one in messages(data) if one.type >> 8 == _SUBSYSTEM_NFTABLES)

    def _concern(self, message: Message) -> str | None:
        """What an announcement says, if it is of a chain that matters."""
        event = _EVENTS.get(message.type & 0xFF)
        if event is None:
            return None
        what, table_attribute, chain_attribute = event
        found = dict(attributes(message.payload[4:]))
        table = string(found[table_attribute])
        chain = string(found[chain_attribute]) if chain_attribute in found else ""
        lost = message.type & 0xFF != _GOT_A_RULE
        if table not in _TABLES or not (self._concerns(table, chain, lost) or not chain):
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


def legacy_socket(family: Family) -> socket.socket:
    """A socket to ask the legacy kernel interface with."""
    return socket.socket(family.af, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)


def table_entries(asking: socket.socket, table: str) -> int:
    """The number of entries of a table (rules, and one or two for each chain); 0 if there is no such table.

    The kernel makes the table if it can: ask only for one that is there, or that may be.
    """
    level = socket.IPPROTO_IP if asking.family == socket.AF_INET else socket.IPPROTO_IPV6
    buffer = ctypes.create_string_buffer(_INFO.pack(table.encode(), *[0] * 13))
    length = ctypes.c_uint32(_INFO.size)
    if _LIBC.getsockopt(asking.fileno(), level, _SO_GET_INFO, buffer, ctypes.byref(length)) < 0:
        if ctypes.get_errno() in (2, 92):  # ENOENT: no such table; ENOPROTOOPT: no x_tables in this kernel
            return 0
        raise OSError(ctypes.get_errno(), f"table {table}: {os.strerror(ctypes.get_errno())}")
    return int(_INFO.unpack(buffer.raw[: _INFO.size])[-2])


class LegacyWatch:
    """Compares how many entries the tables have.

    Only fewer of them count: others add rules beside ours all the time, but ours are lost from a table that shrinks.
    """

    def __init__(self, family: Family) -> None:
        self._socket = legacy_socket(family)
        self._known = self._counts()

    def close(self) -> None:
        self._socket.close()

    def changes(self, own: int | None = None) -> str | None:
        before, self._known = self._known, self._counts()
        if own is not None:
            return None
        told = [
            f"table {table} went from {before[table]} to {count} entries"
            for table, count in self._known.items()
            if count < before[table]
        ]
        return "; ".join(told) or None

    def _counts(self) -> dict[str, int]:
        return {table: table_entries(self._socket, table) for table in _TABLES}
