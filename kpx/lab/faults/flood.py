"""Fills the conntrack table of a network namespace with flows that nobody has, as a flood of one client would.

The limit is one for all namespaces, but each has its own count: nothing outside of this one notices.
Layouts: ``linux/netfilter/nfnetlink_conntrack.h``.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from itertools import islice

from kpx.kernel import conntrack
from kpx.kernel.netlink import NETLINK_NETFILTER, Request, Socket, attribute, nested
from kpx.net import packed

CLIENT = "203.0.113.66"
_SHARE = 0.97
_AT_ONCE = 1000
_PORTS = 60_000

_CT_NEW = 1 << 8
_CREATE = 0x400  # NLM_F_CREATE
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _TIMEOUT = 1, 2, 3, 7
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_V4_SRC, _V4_DST = 1, 2
_NUMBER, _SRC_PORT, _DST_PORT = 1, 2, 3
_CONFIRMED_ASSURED = 0xE  # seen reply, assured, confirmed: such an entry is not given up early
_SECONDS = 600


def fill() -> None:
    """Fill the table to 97 %. Raises `NetlinkError`, and RuntimeError where entries are refused."""
    missing = int(conntrack.limit() * _SHARE) - conntrack.count()
    with Socket(NETLINK_NETFILTER) as netlink:
        requests = _requests(missing)
        while some := list(islice(requests, _AT_ONCE)):
            if refused := netlink.pipeline(some):
                raise RuntimeError(f"the kernel refuses to fill its conntrack table: {next(iter(refused.values()))}")


def _requests(count: int) -> Iterator[Request]:
    for number in range(count):
        server = f"198.18.{number // _PORTS}.1"
        yield Request(_CT_NEW, _CREATE, _message(server, number % _PORTS + 1024))


def _message(server: str, port: int) -> bytes:
    return (
        struct.pack(">BBH", socket.AF_INET, 0, 0)
        + nested(_TUPLE_ORIG, *_tuple(CLIENT, port, server, 53))
        + nested(_TUPLE_REPLY, *_tuple(server, 53, CLIENT, port))
        + attribute(_STATUS, struct.pack(">I", _CONFIRMED_ASSURED))
        + attribute(_TIMEOUT, struct.pack(">I", _SECONDS))
    )


def _tuple(source: str, source_port: int, destination: str, destination_port: int) -> tuple[bytes, bytes]:
    return (
        nested(_TUPLE_IP, attribute(_V4_SRC, packed(source)), attribute(_V4_DST, packed(destination))),
        nested(
            _TUPLE_PROTO,
            attribute(_NUMBER, bytes([socket.IPPROTO_UDP])),
            attribute(_SRC_PORT, source_port.to_bytes(2, "big")),
            attribute(_DST_PORT, destination_port.to_bytes(2, "big")),
        ),
    )
