"""The headers of a packet, as far as they name its flow.

Layouts: RFC 791, RFC 8200, RFC 9293, RFC 768, RFC 9260.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

TCP, UDP, SCTP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_SCTP
SYN, RST, ACK = 0x02, 0x04, 0x10

_WITH_PORTS = {TCP, UDP, SCTP}
_PORTS = struct.Struct(">HHI")  # and TCP's sequence number
_IPV6_BYTES = 40
_FLAGS = 13


class Headers(NamedTuple):
    """Addresses and ports; the ports are 0 where there are none. ``sequence`` and ``flags`` are TCP's."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    sequence: int = 0
    flags: int = 0


def parse(network: bytes, transport: bytes) -> Headers | None:
    """From the first bytes of the IP header and of what follows it; None for what is neither IPv4 nor IPv6."""
    version = network[0] >> 4 if network else 0
    if version == 4 and len(network) >= 20:
        af, protocol, source, destination = socket.AF_INET, network[9], network[12:16], network[16:20]
    elif version == 6 and len(network) >= _IPV6_BYTES:
        # Behind extension headers, which name the protocol, there are no ports to be found.
        af, protocol, source, destination = socket.AF_INET6, network[6], network[8:24], network[24:40]
    else:
        return None
    sender = receiver = sequence = flags = 0
    if protocol in _WITH_PORTS and len(transport) >= _PORTS.size:
        sender, receiver, number = _PORTS.unpack_from(transport)
        if protocol == TCP and len(transport) > _FLAGS:
            sequence, flags = number, transport[_FLAGS]
    return Headers(
        protocol, socket.inet_ntop(af, source), sender, socket.inet_ntop(af, destination), receiver, sequence, flags
    )


def parse_packet(packet: bytes) -> Headers | None:
    """From a packet that begins with its IP header."""
    length = (packet[0] & 15) * 4 if packet and packet[0] >> 4 == 4 else _IPV6_BYTES
    return parse(packet[:length], packet[length:])
