"""What others, and we, change in nftables, as the kernel reports it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kpx.kernel.netlink import NETLINK_NETFILTER, Message, Socket, attributes, messages, string
from kpx.kernel.nft.entries import Entry, Name, SetElements, read_elements, read_entry, read_name
from kpx.kernel.nft.wire import MessageType, unsigned

_GROUP = 7  # NFNLGRP_NFTABLES
_GEN_ID, _GEN_PID, _GEN_NAME = 1, 2, 3

# Classic BPF (linux/filter.h) over struct nlmsghdr, which is in the machine's order while loads are big-endian.
_LOAD_HALF, _LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x28, 0x20, 0x15, 0x06
_TYPE_OFFSET, _PORT_OFFSET = 4, 12
_INSTRUCTION = struct.Struct("=HBBI")
_PASS, _REFUSE = 0xFFFFFFFF, 0


@dataclass(frozen=True, slots=True)
class Changed:
    """An object or some elements came or changed."""

    subject: Entry[Any] | SetElements


@dataclass(frozen=True, slots=True)
class Removed:
    """An object or some elements went; the elements of a set that goes are not reported."""

    subject: Name | SetElements


@dataclass(frozen=True, slots=True)
class Committed:
    """The end of a transaction: the new generation, and the process that made it."""

    generation: int
    pid: int
    program: str


Event = Changed | Removed | Committed


class Listener:
    """Receives the changes in the network namespace of the thread that opens it; not for several threads at once.

    `ignored_port` is the netlink port of a connection whose changes are not wanted (`Nft.port`); with
    `only_commits` nothing but the ends of transactions is. Both are filtered in the kernel, before the socket's
    buffer: a transaction of 50,000 elements is that many messages. (A filter for other kinds would lose some: the
    kernel packs a transaction's messages into datagrams, and a filter sees the first of each.)
    """

    def __init__(self, *, ignored_port: int | None = None, only_commits: bool = False) -> None:
        self._socket = Socket(NETLINK_NETFILTER, groups=(_GROUP,))
        self._socket.attach_filter(_program(ignored_port, only_commits))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def receive(self, timeout: float | None = None) -> list[Event]:
        """The events of one datagram; none after `timeout` seconds without one. Raises `netlink.Overrun` on a loss."""
        data = self._socket.receive(timeout)
        return list(_events(data)) if data is not None else []


def _events(data: bytes) -> Iterator[Event]:
    for message in messages(data):
        read = _READERS.get(message.type)
        if read is not None:
            yield read(message)


def _committed(message: Message) -> Committed:
    found = dict(attributes(message.payload[4:]))
    return Committed(unsigned(found[_GEN_ID]), unsigned(found[_GEN_PID]), string(found[_GEN_NAME]))


_READERS: dict[int, Callable[[Message], Event]] = {
    **{
        kind.number: lambda message: Changed(read_entry(message))
        for kind in (MessageType.NEWTABLE, MessageType.NEWCHAIN, MessageType.NEWRULE, MessageType.NEWSET)
    },
    **{
        kind.number: lambda message: Removed(read_name(message))
        for kind in (MessageType.DELTABLE, MessageType.DELCHAIN, MessageType.DELRULE, MessageType.DELSET)
    },
    MessageType.NEWSETELEM.number: lambda message: Changed(read_elements(message)),
    MessageType.DELSETELEM.number: lambda message: Removed(read_elements(message)),
    MessageType.NEWGEN.number: _committed,
}


def _program(ignored_port: int | None, only_commits: bool) -> bytes:
    """The filter: each test jumps over the refusal that follows it."""
    instructions: list[tuple[int, int, int, int]] = []
    if ignored_port is not None:
        port = int.from_bytes(ignored_port.to_bytes(4, sys.byteorder), "big")
        instructions += [(_LOAD_WORD, 0, 0, _PORT_OFFSET), (_JUMP_EQUAL, 0, 1, port), (_RETURN, 0, 0, _REFUSE)]
    if only_commits:
        kind = int.from_bytes(MessageType.NEWGEN.number.to_bytes(2, sys.byteorder), "big")
        instructions += [(_LOAD_HALF, 0, 0, _TYPE_OFFSET), (_JUMP_EQUAL, 1, 0, kind), (_RETURN, 0, 0, _REFUSE)]
    instructions.append((_RETURN, 0, 0, _PASS))
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)
