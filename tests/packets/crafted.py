"""Packets that no decent program sends: a segment of no connection, and one to another host's loopback address."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from kpx.lab import namespaces
from kpx.lab.network import GATEWAY_MAC
from kpx.lab.requests import Outcome, Reply
from kpx.net import family_of, packed

_SOURCE_PORT = 54321
_SYN_ACK, _RST = 0x12, 0x04
_ETH_P_IP = 0x0800

Send = Callable[[str, str, int, float], Reply]


def stray(source: str, address: str, port: int, timeout: float) -> Reply:
    """Send a TCP segment with SYN and ACK out of the blue, which conntrack calls INVALID.

    Where it arrives, the kernel answers with a reset (REFUSED).
    """
    with socket.socket(family_of(address).af, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        raw.sendto(_segment(source, address, port), (address, 0))
        for received, sender in _received(raw, timeout):
            header = received if ":" in address else _payload(received)
            ports = struct.unpack_from("!HH", header)
            if sender == address and ports == (port, _SOURCE_PORT) and header[13] & _RST:
                return Reply(Outcome.REFUSED, source_port=_SOURCE_PORT)
    return Reply(Outcome.TIMEOUT, source_port=_SOURCE_PORT)


def forged(source: str, address: str, port: int, timeout: float) -> Reply:
    """Send a UDP datagram over the link to a destination that routing would never send there, such as 127.0.0.1."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as link:
        link.bind(("eth0", _ETH_P_IP))
        gateway = bytes.fromhex(GATEWAY_MAC.replace(":", ""))
        link.sendto(_datagram(source, address, port), ("eth0", _ETH_P_IP, 0, 0, gateway))
        for received, _ in _received(link, timeout):
            header = _payload(received)
            if struct.unpack_from("!HH", header) == (port, _SOURCE_PORT):
                answer = json.loads(header[8:])
                return Reply(Outcome.ANSWERED, answer["answers"], answer["client"], answer["port"], _SOURCE_PORT)
    return Reply(Outcome.TIMEOUT, source_port=_SOURCE_PORT)


def send(how: Send, namespace: str, source: str, target: tuple[str, int], timeout: float) -> Reply:
    """Send a crafted packet from a network namespace, on a thread of its own."""
    with ThreadPoolExecutor(1, initializer=lambda: namespaces.enter(namespace)) as thread:
        return thread.submit(how, source, *target, timeout).result()


def _received(raw: socket.socket, timeout: float) -> Iterator[tuple[bytes, str]]:
    """What arrives within `timeout` seconds, with the sender's address."""
    deadline = time.monotonic() + timeout
    while (remaining := deadline - time.monotonic()) > 0:
        raw.settimeout(remaining)
        try:
            received, (sender, *_) = raw.recvfrom(2048)
        except TimeoutError:
            return
        yield received, sender


def _payload(packet: bytes) -> bytes:
    """What follows the header of an IPv4 packet."""
    return packet[(packet[0] & 15) * 4 :]


def _segment(source: str, address: str, port: int) -> bytes:
    """A TCP header without options, and its checksum over the pseudo-header (RFC 9293, 3.1)."""
    header = struct.pack("!HHIIBBHHH", _SOURCE_PORT, port, 1, 1, 5 << 4, _SYN_ACK, 1024, 0, 0)
    pseudo = packed(source) + packed(address) + struct.pack("!II", len(header), socket.IPPROTO_TCP)
    return header[:16] + _checksum(pseudo + header) + header[18:]


def _datagram(source: str, address: str, port: int) -> bytes:
    """An IPv4 packet with a UDP datagram (RFC 791, RFC 768; no UDP checksum)."""
    udp = struct.pack("!HHHH", _SOURCE_PORT, port, 8 + 4, 0) + b"who?"
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0)
    addresses = packed(source) + packed(address)
    return header[:10] + _checksum(header + addresses) + addresses + udp


def _checksum(data: bytes) -> bytes:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
