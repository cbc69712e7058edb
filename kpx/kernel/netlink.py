"""Netlink on the wire: messages, attributes, requests, dumps, batches and notifications.

A small codec for the paths where a node's size counts (nftables, conntrack, IPVS): the bytes are laid out by hand,
which costs microseconds a message where general libraries cost a millisecond. Layouts: ``linux/netlink.h``,
``linux/netfilter/nfnetlink.h``.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

NETLINK_NETFILTER = 12
NETLINK_GENERIC = 16

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_DUMP = 0x300
NLM_F_NONREC = 0x100

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_NLMSGERR_ATTR_MSG = 1
_NLMSGERR_ATTR_OFFS = 2
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")
_RECEIVE_BYTES = 1 << 20
_DUMP_ATTEMPTS = 5
# Requests in a datagram: errors of all of them fit the receive buffer, and the cost of a send hardly shows.
_PIPELINED = 200

T = TypeVar("T")


class NetlinkError(OSError):
    """The kernel refused a request. ``errno`` is the kernel's; the text holds its extended answer where it gave one."""

    def __init__(self, code: int, what: str, detail: str = "") -> None:
        super().__init__(code, f"{what}: {detail or os.strerror(code)}")
        self.what = what
        self.detail = detail


class DumpInterrupted(Exception):
    """The kernel changed the table while it was dumped (NLM_F_DUMP_INTR): what was read is no single state."""


class Overrun(Exception):
    """Notifications were lost: the socket's buffer was full (ENOBUFS)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: its type, flags, sequence number, the port that sent it and the bytes after the header."""

    type: int
    flags: int
    sequence: int
    port: int
    payload: memoryview


class Request(NamedTuple):
    """A request of a `Socket.pipeline`: message type, flags besides NLM_F_REQUEST, and what follows the header."""

    kind: int
    flags: int
    payload: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute (``struct nlattr``) with its padding to four bytes."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def be32(kind: int, value: int) -> bytes:
    """An unsigned 32-bit attribute in network order, as netfilter wants its numbers."""
    return attribute(kind, value.to_bytes(4, "big"))


def attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The attributes in a message's payload or in a nested attribute: (type without flags, value)."""
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def string(value: memoryview) -> str:
    """The text of a string attribute."""
    return bytes(value).rstrip(b"\0").decode(errors="replace")


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A whole message, padded to four bytes."""
    return _HEADER.pack(len(payload) + 16, kind, flags, sequence, 0) + payload + bytes(-len(payload) % 4)


def messages(data: bytes) -> Iterator[Message]:
    """The messages in one datagram."""
    view = memoryview(data)
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, port = _HEADER.unpack_from(view, offset)
        if length < 16:
            return
        yield Message(kind, flags, sequence, port, view[offset + 16 : offset + length])
        offset += (length + 3) & ~3


class Socket:
    """A netlink socket in the network namespace of the thread that opens it.

    Not for use by several threads at once. Errors of the kernel are raised as `NetlinkError`.
    """

    def __init__(self, protocol: int, *, groups: tuple[int, ...] = (), receive_buffer: int = 4 << 20) -> None:
        self.protocol = protocol
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        # Only what datagrams touch of it takes memory. One for each would come from the kernel and go back to it every
        # time: see return_freed_memory.
        self._buffer = mmap.mmap(-1, _RECEIVE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            # An error does not send the request back: thousands of errors of one batch must fit the receive buffer.
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._grow(_SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_buffer)
            for group in groups:
                self.join(group)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[0]

    def _grow(self, force: int, plain: int, size: int) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, force, size)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, plain, size)

    def join(self, group: int) -> None:
        """Receive what the kernel announces to a group."""
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def attach_filter(self, program: bytes) -> None:
        """Attach a classic BPF program (``struct sock_filter`` array): the kernel delivers only what it accepts."""
        # SO_ATTACH_FILTER takes a struct with a pointer to the program; it must live until the call returns.
        import ctypes

        buffer = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, 26, header)

    def next_sequence(self, count: int = 1) -> int:
        """The first of `count` sequence numbers in a row that no earlier request on this socket used."""
        self._sequence += count
        return self._sequence - count + 1

    def request(self, kind: int, flags: int, payload: bytes, what: str) -> list[Message]:
        """Send one request with an acknowledgement and return what the kernel answered before it.

        `what` names the object for the error: "create chain ip kpx lb-4".
        """
        sequence = self.next_sequence()
        self._socket.send(message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, payload))
        return list(self._replies(sequence, what))

    def pipeline(self, requests: Sequence[Request]) -> dict[int, Refusal]:
        """Make requests that answer nothing, many in a datagram; return what the kernel refuses, by place.

        A refused request does not keep the others from being made. Netfilter's own batches are another thing.
        """
        refused: dict[int, Refusal] = {}
        for start in range(0, len(requests), _PIPELINED):
            part = requests[start : start + _PIPELINED]
            first = self.next_sequence(len(part))
            # Only the last is acknowledged: an error is told in any case, and all are done in order.
            last = len(part) - 1
            flags = [NLM_F_REQUEST] * last + [NLM_F_REQUEST | NLM_F_ACK]
            self.send(
                b"".join(
                    message(one.kind, one.flags | flags[at], first + at, one.payload) for at, one in enumerate(part)
                )
            )
            for at, error in self._errors(first, last):
                refused[start + at] = error
        return refused

    def _errors(self, first: int, last: int) -> Iterator[tuple[int, Refusal]]:
        """The errors of requests with consecutive sequence numbers, up to the answer to the last one."""
        while True:
            for reply in messages(self._received()):
                at = reply.sequence - first
                if reply.type != NLMSG_ERROR or not 0 <= at <= last:
                    continue
                if error := refusal(reply):
                    yield at, error
                if at == last:
                    return

    def dump(self, kind: int, payload: bytes, what: str, flags: int = 0) -> Iterator[Message]:
        """All objects that a dump request yields, one by one.

        Raises `DumpInterrupted` at the end if the kernel says that the dump is no single state.
        """
        sequence = self.next_sequence()
        self._socket.send(message(kind, flags | NLM_F_REQUEST | NLM_F_DUMP, sequence, payload))
        interrupted = False
        for reply in self._replies(sequence, what):
            interrupted = interrupted or bool(reply.flags & NLM_F_DUMP_INTR)
            yield reply
        if interrupted:
            raise DumpInterrupted(what)

    def _replies(self, sequence: int, what: str) -> Iterator[Message]:
        """The replies to one request, up to its acknowledgement or the end of its dump."""
        while True:
            for reply in messages(self._received()):
                if reply.sequence != sequence:
                    continue  # the rest of an earlier dump that its reader left half-way
                if reply.type == NLMSG_DONE:
                    return
                if reply.type == NLMSG_ERROR:
                    raise_error(reply, what)
                    return
                yield reply

    def send(self, data: bytes) -> None:
        """Send raw messages as one datagram, its buffer grown to fit (a netfilter batch is one datagram)."""
        size = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if len(data) * 2 > size:
            self._grow(_SO_SNDBUFFORCE, socket.SO_SNDBUF, len(data) * 2)
        self._socket.send(data)

    def _received(self, flags: int = 0) -> bytes:
        """The next datagram."""
        return self._buffer[: self._socket.recv_into(self._buffer, 0, flags)]

    def receive(self, timeout: float | None = None) -> bytes | None:
        """One datagram, or None after `timeout` seconds without one; raises `Overrun` if some were lost before it."""
        if timeout != 0 and not select.select([self._socket], [], [], timeout)[0]:
            return None
        try:
            return self._received(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise Overrun from error
            raise


def read_whole(dump: Callable[[], Iterator[T]]) -> list[T]:
    """All that a dump yields; again, up to five times, while the kernel says that it is no single state.

    The last reading counts even then: a table in constant motion never holds still.
    """
    found: list[T] = []
    for _ in range(_DUMP_ATTEMPTS):
        found.clear()
        try:
            for item in dump():
                found.append(item)
        except DumpInterrupted:
            continue
        break
    return found


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an NLMSG_ERROR says: errno, the kernel's own words, and the byte of the request that it stumbled on."""

    code: int
    detail: str = ""
    offset: int | None = None


def refusal(reply: Message) -> Refusal | None:
    """The error that an NLMSG_ERROR message holds, or None for a mere acknowledgement."""
    (code,) = _ERROR.unpack_from(reply.payload)
    if not code:
        return None
    if not reply.flags & _NLM_F_ACK_TLVS:
        return Refusal(-code)
    (length,) = struct.unpack_from("=I", reply.payload, 4)
    extended = 4 + (16 if reply.flags & _NLM_F_CAPPED else (length + 3) & ~3)
    found = dict(attributes(reply.payload[extended:]))
    offset = found.get(_NLMSGERR_ATTR_OFFS)
    return Refusal(
        -code,
        string(found.get(_NLMSGERR_ATTR_MSG, memoryview(b""))),
        None if offset is None else struct.unpack("=I", offset)[0],
    )


def raise_error(reply: Message, what: str) -> None:
    """Raise the error that an NLMSG_ERROR message holds; return if it is a mere acknowledgement."""
    error = refusal(reply)
    if error is not None:
        raise NetlinkError(error.code, what, error.detail)
