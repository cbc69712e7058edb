"""The kernel's connection tracking table, over ctnetlink.

Layouts: ``linux/netfilter/nfnetlink_conntrack.h``. The table may hold hundreds of thousands of flows, so the common
form of a tuple is read with one struct.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import msgspec

from kpx.kernel import sysctl
from kpx.kernel.netlink import NetlinkError, Socket, attribute, attributes, nested
from kpx.net import Family, family_of

_CTNETLINK = 1 << 8
_CT_GET = _CTNETLINK | 1
_CT_DELETE = _CTNETLINK | 2

_CTA_TUPLE_ORIG = 1
_CTA_TUPLE_REPLY = 2
_CTA_STATUS = 3
_CTA_PROTOINFO = 4
_CTA_TIMEOUT = 7
_CTA_MARK = 8
_CTA_COUNTERS_ORIG = 9
_CTA_COUNTERS_REPLY = 10
_CTA_ID = 12
_CTA_ZONE = 18
_CTA_FILTER = 25

_CTA_TUPLE_IP = 1
_CTA_TUPLE_PROTO = 2
_CTA_IP_V4_SRC = 1
_CTA_IP_V4_DST = 2
_CTA_IP_V6_SRC = 3
_CTA_IP_V6_DST = 4
_CTA_PROTO_NUM = 1
_CTA_PROTO_SRC_PORT = 2
_CTA_PROTO_DST_PORT = 3
_CTA_COUNTERS_PACKETS = 1
_CTA_COUNTERS_BYTES = 2

_CTA_PROTOINFO_TCP = 1
_CTA_PROTOINFO_TCP_STATE = 1

_CTA_FILTER_ORIG_FLAGS = 1
_CTA_FILTER_REPLY_FLAGS = 2
# CTA_FILTER_F_CTA_* in net/netfilter/nf_conntrack_netlink.c.
_FILTER_BY_DESTINATION = 1 << 1
_FILTER_BY_PROTOCOL = 1 << 3
_FILTER_BY_DESTINATION_PORT = 1 << 5

# ``linux/netfilter/nf_conntrack_common.h`` and ``nf_conntrack_tcp.h``.
SEEN_REPLY = 1 << 1
ASSURED = 1 << 2
TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)
_STATISTICS = Path("/proc/thread-self/net/stat/nf_conntrack")

_NFGENMSG = struct.Struct(">BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ATTRIBUTE_TYPE = 0x3FFF

# The value of a CTA_TUPLE_* attribute of a protocol with ports, as the kernel writes it: the addresses, the protocol
# and the ports, each behind its attribute header. Its length tells it from every other form.
_WITH_PORTS = {
    layout.size: layout for layout in map(struct.Struct, (">8x4s4x4s8xB3x4xH2x4xH2x", ">8x16s4x16s8xB3x4xH2x4xH2x"))
}


class Tuple(msgspec.Struct, frozen=True, gc=False):
    """One direction of a flow; the ports are 0 where the protocol has none."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int


class Counters(msgspec.Struct, frozen=True, gc=False):
    """What went in one direction."""

    packets: int
    bytes: int


class Flow(msgspec.Struct, frozen=True, gc=False):
    """An entry of the table.

    ``original`` is the first packet as it was sent; ``reply`` an answer as it arrives, so its source is where the flow
    was translated to. ``status`` holds the IPS_* bits, ``timeout`` is in seconds. ``sent`` and ``received`` are None
    unless net/netfilter/nf_conntrack_acct is on. ``key`` is the original tuple as the kernel wrote it. ``tcp_state`` is
    an index of `TCP_STATES`, 0 for other protocols.
    """

    original: Tuple
    reply: Tuple
    id: int
    key: bytes
    status: int = 0
    timeout: int = 0
    mark: int = 0
    zone: int = 0
    sent: Counters | None = None
    received: Counters | None = None
    tcp_state: int = 0

    @property
    def protocol(self) -> int:
        return self.original.protocol

    @property
    def translated(self) -> bool:
        """Whether the flow goes elsewhere than it was sent: by DNAT, or by IPVS, which sets no bit in ``status``."""
        sent_to, answered_by = self.original, self.reply
        return (sent_to.destination, sent_to.destination_port) != (answered_by.source, answered_by.source_port)


def dump(netlink: Socket, family: Family, protocol: int | None = None) -> Iterator[Flow]:
    """All flows of a family, or those of one protocol (an IPPROTO_* number).

    The kernel selects by protocol since Linux 5.8; an older one sends all flows, and they are selected here.
    """
    if protocol is None:
        return _dump(netlink, family, b"")
    selected = nested(_CTA_TUPLE_PROTO, attribute(_CTA_PROTO_NUM, bytes([protocol])))
    found = _dump(netlink, family, _filter(selected, _FILTER_BY_PROTOCOL))
    return (flow for flow in found if flow.protocol == protocol)


def dump_to(netlink: Socket, protocol: int, address: str, port: int) -> Iterator[Flow]:
    """The flows whose clients send to an address and port: the kernel selects them, as in `dump`."""
    family = family_of(address)
    ports = attribute(_CTA_PROTO_NUM, bytes([protocol])) + attribute(_CTA_PROTO_DST_PORT, port.to_bytes(2, "big"))
    selected = nested(_CTA_TUPLE_PROTO, ports)
    flags = _FILTER_BY_PROTOCOL | _FILTER_BY_DESTINATION_PORT
    if family is Family.IPV4:  # asked for an IPv6 address, the kernel leaves out the very flows that have it
        selected += nested(_CTA_TUPLE_IP, attribute(_CTA_IP_V4_DST, socket.inet_pton(family.af, address)))
        flags |= _FILTER_BY_DESTINATION
    for flow in _dump(netlink, family, _filter(selected, flags)):
        sent = flow.original
        if (sent.protocol, sent.destination, sent.destination_port) == (protocol, address, port):
            yield flow


def _filter(selected: bytes, flags: int) -> bytes:
    """What makes the kernel send only the flows whose original tuple is so in the fields of `flags`."""
    return nested(_CTA_TUPLE_ORIG, selected) + nested(
        _CTA_FILTER,
        attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags))
        + attribute(_CTA_FILTER_REPLY_FLAGS, struct.pack("=I", 0)),
    )


def _dump(netlink: Socket, family: Family, selected: bytes) -> Iterator[Flow]:
    request = _NFGENMSG.pack(family.af, 0, 0) + selected
    for reply in netlink.dump(_CT_GET, request, f"list the {family.value} conntrack table"):
        yield decode(reply.payload)


def delete(netlink: Socket, flow: Flow) -> bool:
    """Delete this very entry; return False if it is gone, also if a new one has taken its tuple."""
    request = _NFGENMSG.pack(family_of(flow.original.source).af, 0, 0)
    request += nested(_CTA_TUPLE_ORIG, flow.key) + attribute(_CTA_ID, flow.id.to_bytes(4, "big"))
    if flow.zone:
        request += attribute(_CTA_ZONE, flow.zone.to_bytes(2, "big"))
    try:
        netlink.request(_CT_DELETE, 0, request, f"delete the flow {flow.original}")
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def count() -> int:
    """The number of entries in this network namespace's table."""
    return sysctl.read_int("net/netfilter/nf_conntrack_count")


def limit() -> int:
    """The number of entries at which the kernel drops new connections."""
    return sysctl.read_int("net/netfilter/nf_conntrack_max")


def statistics() -> dict[str, int]:
    """What the kernel counted since it started, by name (``drop``, ``insert_failed``), in this network namespace."""
    try:
        heads, *processors = _STATISTICS.read_text().splitlines()
    except FileNotFoundError:  # a kernel without CONFIG_NF_CONNTRACK_PROCFS
        return {}
    rows = [[int(value, 16) for value in line.split()] for line in processors]
    return {name: sum(row[at] for row in rows) for at, name in enumerate(heads.split()) if name != "entries"}


def decode(message: memoryview) -> Flow:
    """The flow in a message of the kernel: a dump's answer, or an event."""
    values: dict[int, memoryview] = {}
    offset, end = _NFGENMSG.size, len(message)
    while offset < end:  # as netlink.attributes, without a generator's cost
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        values[kind & _ATTRIBUTE_TYPE] = message[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    key = values[_CTA_TUPLE_ORIG]
    return Flow(
        _tuple(key),
        _tuple(values[_CTA_TUPLE_REPLY]),
        _number(values.get(_CTA_ID)),
        bytes(key),
        _number(values.get(_CTA_STATUS)),
        _number(values.get(_CTA_TIMEOUT)),
        _number(values.get(_CTA_MARK)),
        _number(values.get(_CTA_ZONE)),
        _counters(values.get(_CTA_COUNTERS_ORIG)),
        _counters(values.get(_CTA_COUNTERS_REPLY)),
        _tcp_state(values.get(_CTA_PROTOINFO)),
    )


def _tcp_state(value: memoryview | None) -> int:
    if value is None:
        return 0
    tcp = dict(attributes(value)).get(_CTA_PROTOINFO_TCP)
    return _number(dict(attributes(tcp)).get(_CTA_PROTOINFO_TCP_STATE)) if tcp is not None else 0


def _number(value: memoryview | None) -> int:
    return int.from_bytes(value, "big") if value else 0


def _counters(value: memoryview | None) -> Counters | None:
    if value is None:
        return None
    counted = dict(attributes(value))
    return Counters(_number(counted.get(_CTA_COUNTERS_PACKETS)), _number(counted.get(_CTA_COUNTERS_BYTES)))


def _tuple(value: memoryview) -> Tuple:
    layout = _WITH_PORTS.get(len(value))
    if layout is None:
        return _uncommon_tuple(value)
    source, destination, protocol, source_port, destination_port = layout.unpack(value)
    return Tuple(protocol, _text(source), source_port, _text(destination), destination_port)


def _uncommon_tuple(value: memoryview) -> Tuple:
    """A tuple of any form: without ports, or with a zone of its own."""
    parts = dict(attributes(value))
    ip = dict(attributes(parts[_CTA_TUPLE_IP]))
    protocol = dict(attributes(parts[_CTA_TUPLE_PROTO]))
    return Tuple(
        _number(protocol.get(_CTA_PROTO_NUM)),
        _text(bytes(ip.get(_CTA_IP_V4_SRC) or ip[_CTA_IP_V6_SRC])),
        _number(protocol.get(_CTA_PROTO_SRC_PORT)),
        _text(bytes(ip.get(_CTA_IP_V4_DST) or ip[_CTA_IP_V6_DST])),
        _number(protocol.get(_CTA_PROTO_DST_PORT)),
    )


@lru_cache(maxsize=65536)
def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
