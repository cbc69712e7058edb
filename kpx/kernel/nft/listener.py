"""What others, and we, change in nftables, as the kernel reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kpx.kernel.netlink import NETLINK_NETFILTER, Message, Socket, attributes, messages, string
from kpx.kernel.nft.entries import Entry, Name, SetElements, read_elements, read_entry, read_name
from kpx.kernel.nft.wire import MessageType, unsigned
from kpx.kernel.socket_filter import any_of, not_from, of_type

_GROUP = 7  # NFNLGRP_NFTABLES
_GEN_ID, _GEN_PID, _GEN_NAME = 1, 2, 3


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
        wanted = [not_from(ignored_port)] if ignored_port is not None else []
        wanted += [of_type(MessageType.NEWGEN.number)] if only_commits else []
        self._socket.attach_filter(any_of(wanted))

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
