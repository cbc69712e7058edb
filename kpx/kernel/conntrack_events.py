"""What happens to tracked connections, as the kernel announces it, and the state of a single one.

Only those of interest are received: the kernel compares each announcement with what is `Wanted` before it reaches the
socket. Connections that began before anybody listened are not announced (``net/netfilter/nf_conntrack_events`` 2).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from kpx.kernel.conntrack import Flow, Tuple, decode
from kpx.kernel.netlink import NETLINK_NETFILTER, NLM_F_CREATE, NetlinkError, Socket, attribute, messages, nested
from kpx.kernel.socket_filter import Condition, any_of
from kpx.net import Family, family_of, packed

_NEW, _GET, _DELETE = (1 << 8 | kind for kind in range(3))  # IPCTNL_MSG_CT_*
_GROUPS = (1, 2, 3)  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
_BUFFER = 32 << 20
_NFGENMSG = struct.Struct(">BBH")

# Where the kernel writes a connection's original tuple: it is an announcement's first attribute, and its parts have
# fixed places (`conntrack.Flow`). The header is 16 bytes long, the address family follows it.
_FAMILY = 16
_SOURCE = 32
_PLACES = {Family.IPV4: (40, 52, 60, 68), Family.IPV6: (52, 76, 84, 92)}  # destination, protocol, the two ports

_TUPLE_ORIG, _TUPLE_IP, _TUPLE_PROTO = 1, 1, 2
_ADDRESSES = {Family.IPV4: (1, 2), Family.IPV6: (3, 4)}
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """Connections to a port, as they were sent: of a protocol (an IPPROTO_* number), to an address or (empty) to any.

    ``source`` and ``source_port`` are of their senders; empty and 0 are anybody's.
    """

    family: Family
    protocol: int
    port: int
    address: str = ""
    source: str = ""
    source_port: int = 0

    def conditions(self) -> list[Condition]:
        """What an announcement of such a connection has where."""
        destination, protocol, source_port, port = _PLACES[self.family]
        found = [
            Condition(_FAMILY, bytes([self.family.af])),
            Condition(protocol, bytes([self.protocol])),
            Condition(port, self.port.to_bytes(2, "big")),
        ]
        if self.address:
            found.append(Condition(destination, packed(self.address)))
        if self.source:
            found.append(Condition(_SOURCE, packed(self.source)))
        if self.source_port:
            found.append(Condition(source_port, self.source_port.to_bytes(2, "big")))
        return found


class Happening(Enum):
    """What happened to a connection."""

    CAME = "new"  # its first packet has left, or was delivered
    CHANGED = "changed"
    WENT = "gone"


@dataclass(frozen=True, slots=True)
class Event:
    """A connection as it was when something happened to it."""

    happening: Happening
    flow: Flow


class Listener:
    """Receives the announcements in the network namespace of the thread that opens it."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._socket = Socket(NETLINK_NETFILTER, receive_buffer=_BUFFER)
        try:
            # First the filter, then the groups: no other connection takes room.
            self._socket.attach_filter(any_of(*(one.conditions() for one in wanted)))
            for group in _GROUPS:
                self._socket.join(group)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self, timeout: float | None = None) -> list[Event] | None:
        """The events of one datagram; None after `timeout` seconds without one. Raises `netlink.Overrun` on a loss."""
        data = self._socket.receive(timeout)
        return None if data is None else list(_events(data))


def _events(data: bytes) -> Iterator[Event]:
    for message in messages(data):
        if message.type == _DELETE:
            yield Event(Happening.WENT, decode(message.payload))
        elif message.type == _NEW:
            came = bool(message.flags & NLM_F_CREATE)
            yield Event(Happening.CAME if came else Happening.CHANGED, decode(message.payload))


def lookup(netlink: Socket, original: Tuple) -> Flow | None:
    """The connection that began with such a packet, or None if none is tracked."""
    family = family_of(original.source)
    source, destination = _ADDRESSES[family]
    request = _NFGENMSG.pack(family.af, 0, 0) + nested(
        _TUPLE_ORIG,
        nested(
            _TUPLE_IP,
            attribute(source, packed(original.source)),
            attribute(destination, packed(original.destination)),
        ),
        nested(
            _TUPLE_PROTO,
            attribute(_NUMBER, bytes([original.protocol])),
            attribute(_SOURCE_PORT, struct.pack(">H", original.source_port)),
            attribute(_DESTINATION_PORT, struct.pack(">H", original.destination_port)),
        ),
    )
    try:
        (reply,) = netlink.request(_GET, 0, request, f"read the connection {original}")
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return decode(reply.payload)
