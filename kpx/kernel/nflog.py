"""What rules log to user space (NFLOG), and what legacy iptables reports of packets that a TRACE rule has marked.

The reports come to group 0 if this network namespace's logger of the packet's family is ``nfnetlink_log``, which is the
setting ``net/netfilter/nf_log/2`` (IPv4) or ``10`` (IPv6). Layout: ``linux/netfilter/nfnetlink_log.h``.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kpx.kernel.headers import Headers, parse_packet
from kpx.kernel.netlink import NETLINK_NETFILTER, Message, NetlinkError, Socket, attribute, attributes, messages, string
from kpx.net import Family

LOGGER = "nfnetlink_log"

_SUBSYSTEM = 4 << 8  # NFNL_SUBSYS_ULOG
_PACKET, _CONFIG = _SUBSYSTEM, _SUBSYSTEM | 1
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5  # NFULA_CFG_*
_BIND, _COPY_PACKET = 1, 2
_MARK, _INDEV, _PAYLOAD, _PREFIX = 2, 4, 9, 10  # NFULA_*
_TRACE = re.compile(r"TRACE: (\w+):(.+):(rule|return|policy):(\d+)")
_NFGENMSG = struct.Struct(">BBH")
# IP header and the begin of the next one: with options, or IPv6's.
_COPIED_BYTES = 96
_BUFFER = 32 << 20


class GroupTaken(Exception):
    """Another program listens to the group."""


@dataclass(frozen=True, slots=True)
class Step:
    """A traced packet in a legacy table. By its ``kind`` it matched a rule, left a chain (return) or came to a policy.

    ``number`` is the place in the chain, from 1 on. ``headers`` are as they are there.
    """

    family: Family
    table: str
    chain: str
    kind: str
    number: int
    headers: Headers
    incoming: int = 0
    mark: int = 0


def logger_setting(family: Family) -> str:
    """The setting that names the logger of a family."""
    return f"net/netfilter/nf_log/{int(family.af)}"


class Log:
    """Receives what comes to group 0 in the network namespace of the thread that opens it. Raises `GroupTaken`."""

    def __init__(self) -> None:
        self._socket = Socket(NETLINK_NETFILTER, receive_buffer=_BUFFER)
        try:
            self._configure(attribute(_COMMAND, bytes([_BIND])))
            self._configure(attribute(_MODE, struct.pack(">IBx", _COPIED_BYTES, _COPY_PACKET)))
            # Each report at once: else the kernel collects up to a hundred, or for a second.
            self._configure(attribute(_THRESHOLD, struct.pack(">I", 1)))
        except NetlinkError as error:
            self._socket.close()
            if error.errno in (errno.EBUSY, errno.EPERM):  # the latter where another has bound it
                raise GroupTaken("another program (ulogd, another trace) listens to NFLOG group 0") from error
            raise

    def _configure(self, setting: bytes) -> None:
        self._socket.request(_CONFIG, 0, _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0) + setting, "listen to NFLOG group 0")

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self, timeout: float | None = None) -> list[Step] | None:
        """What one datagram says of traced packets; None after `timeout` seconds without one.

        Raises `netlink.Overrun` on a loss.
        """
        data = self._socket.receive(timeout)
        return None if data is None else list(_steps(data))


def _steps(data: bytes) -> Iterator[Step]:
    for message in messages(data):
        if message.type == _PACKET and (step := _step(message)) is not None:
            yield step


def _step(message: Message) -> Step | None:
    """None for what is no report of a trace: other rules log to group 0, too."""
    found = dict(attributes(message.payload[4:]))
    told = _TRACE.match(string(found.get(_PREFIX, _NOTHING)))
    headers = parse_packet(bytes(found.get(_PAYLOAD, _NOTHING)))
    if told is None or headers is None:
        return None
    table, chain, kind, number = told.groups()
    family = Family.IPV6 if ":" in headers.source else Family.IPV4
    incoming, mark = (int.from_bytes(found.get(one, _NOTHING), "big") for one in (_INDEV, _MARK))
    return Step(family, table, chain, kind, int(number), headers, incoming, mark)


_NOTHING = memoryview(b"")
