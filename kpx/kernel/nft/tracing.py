"""What rules the packets meet that a rule has marked with ``meta nftrace set 1``, as the kernel reports it.

The kernel numbers the packets, and uses a number again as soon as its packet is gone. Layout:
``linux/netfilter/nf_tables.h`` (``enum nft_trace_attributes``), ``net/netfilter/nf_tables_trace.c``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from kpx.kernel.headers import Headers, parse
from kpx.kernel.netlink import NETLINK_NETFILTER, Message, Socket, attributes, messages, string
from kpx.kernel.nft.expressions import VerdictCode
from kpx.kernel.nft.wire import MessageType, NfFamily, TableName, unsigned
from kpx.kernel.socket_filter import any_of, of_type

_GROUP = 9  # NFNLGRP_NFTRACE
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID, _NETWORK, _TRANSPORT = 1, 2, 3, 4, 5, 6, 8, 9
_IIF, _MARK, _NFPROTO, _POLICY, _CT_ID = 10, 14, 15, 16, 18
_CODE, _TARGET = 1, 2  # NFTA_VERDICT_*
_VERDICTS = {int(code): code.name.lower() for code in VerdictCode} | {2: "stolen", 3: "queue"}
_BUFFER = 32 << 20


class Kind(IntEnum):
    """NFT_TRACETYPE_*: a packet came to a base chain's policy, left a chain, or matched a rule."""

    POLICY = 1
    RETURN = 2
    RULE = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One report of one packet.

    ``verdict`` is in nft's words: ``accept``, ``continue``, ``jump CHAIN``. ``handle`` is the rule's number, 0 where
    there is none: at the end of a chain. ``packet`` is the kernel's number for the packet. ``headers`` are those that
    it had when it came to the base chain, only in that chain's first report.
    ``flow`` is conntrack's number for its flow, 0 where there is none yet or the kernel does not tell (before 6.17).
    ``family`` is the packet's own (NFPROTO_*), also in a table for several.
    """

    table: TableName
    chain: str
    kind: Kind
    verdict: str
    handle: int
    packet: int
    headers: Headers | None = None
    incoming: int = 0
    mark: int = 0
    flow: int = 0
    family: int = 0


class Tracing:
    """Receives the reports of all marked packets in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = Socket(NETLINK_NETFILTER, groups=(_GROUP,), receive_buffer=_BUFFER)
        self._socket.attach_filter(any_of([of_type(MessageType.TRACE.number)]))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def receive(self, timeout: float | None = None) -> list[Step] | None:
        """The reports of one datagram; None after `timeout` seconds without one. Raises `netlink.Overrun` on a loss."""
        data = self._socket.receive(timeout)
        return None if data is None else list(_steps(data))


def _steps(data: bytes) -> Iterator[Step]:
    return (_step(message) for message in messages(data) if message.type == MessageType.TRACE.number)


def _step(message: Message) -> Step:
    found = dict(attributes(message.payload[4:]))

    def number(kind: int) -> int:
        return unsigned(found.get(kind, _NOTHING))

    kind = Kind(number(_TYPE))
    network = bytes(found.get(_NETWORK, _NOTHING))
    return Step(
        TableName(NfFamily(message.payload[0]), string(found[_TABLE])),
        string(found[_CHAIN]),
        kind,
        _VERDICTS.get(number(_POLICY), "") if kind is Kind.POLICY else _verdict(found.get(_VERDICT, _NOTHING)),
        number(_HANDLE),
        number(_ID),
        parse(network, bytes(found.get(_TRANSPORT, _NOTHING))) if network else None,
        number(_IIF),
        number(_MARK),
        number(_CT_ID),
        number(_NFPROTO),
    )


def _verdict(value: memoryview) -> str:
    found = dict(attributes(value))
    code = int.from_bytes(found.get(_CODE, _NOTHING), "big", signed=True)
    # What is queued has the queue's number in the upper bits (NF_VERDICT_MASK).
    word = _VERDICTS.get(code if code < 0 else code & 0xFF, str(code))
    return f"{word} {string(found[_TARGET])}" if _TARGET in found else word


_NOTHING = memoryview(b"")
