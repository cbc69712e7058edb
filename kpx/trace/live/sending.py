"""Sending one packet, or one request, from a socket in some network namespace: what came back, and when."""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kpx.kernel.network_namespaces import entered
from kpx.net import family_of, join_port

_IPV6_RECVERR = 25
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_DATAGRAM = b"kpx trace --probe\n"
# A query for the name servers of the root, which every DNS server answers (RFC 1035, 4.1).
_DNS_PORT, _DNS_QUERY = 53, struct.pack(">HHHHHHBHH", 0x6B70, 0x0100, 1, 0, 0, 0, 0, 2, 1)
_MOST_BYTES = 65_536


class Answer(Enum):
    """What the sender got."""

    ANSWERED = "answered"
    REFUSED = "refused"  # a reset, or ICMP port unreachable
    TIMEOUT = "timeout"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Got:
    """An answer, after so many seconds; ``detail`` says more: the HTTP status, or why it failed.

    For TCP the time is that of the handshake, and ``request_seconds`` that of an HTTP request after it.
    """

    answer: Answer
    seconds: float
    detail: str = ""
    request_seconds: float | None = None


class Sender:
    """A socket with a port of its own, which is known before anything is sent."""

    def __init__(self, protocol: str, address: str, port: int, place: Path | None) -> None:
        """`place` is the network namespace, None for the calling thread's."""
        family = family_of(address).af
        self._protocol = protocol
        self._to = (address, port)
        with entered(place):
            self._socket = socket.socket(family, _KINDS[protocol])
        try:
            if family == socket.AF_INET6:
                # Else an ICMPv6 error that arrives within connect() is told only after the first retransmission.
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            self._socket.bind(("", 0))
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()

    def send(self, seconds: float, path: str = "") -> Got:
        """Send, and wait at most so long; with a path, for an answer to an HTTP GET."""
        start = time.monotonic()
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(self._to)
            if self._protocol == "udp":
                return self._datagram(start)
            connected = time.monotonic() - start
            return self._get(path, connected) if path else Got(Answer.ANSWERED, connected, "the handshake is complete")
        except TimeoutError:
            return Got(Answer.TIMEOUT, time.monotonic() - start)
        except (ConnectionRefusedError, ConnectionResetError) as error:
            return Got(Answer.REFUSED, time.monotonic() - start, error.strerror or "")
        except OSError as error:
            return Got(Answer.FAILED, time.monotonic() - start, error.strerror or str(error))

    def _datagram(self, start: float) -> Got:
        self._socket.send(_DNS_QUERY if self._to[1] == _DNS_PORT else _DATAGRAM)
        size = len(self._socket.recv(_MOST_BYTES))
        return Got(Answer.ANSWERED, time.monotonic() - start, f"{size} bytes came back")

    def _get(self, path: str, connected: float) -> Got:
        start = time.monotonic()
        head = f"GET {path} HTTP/1.1\r\nHost: {join_port(*self._to)}\r\nUser-Agent: kpx\r\nConnection: close\r\n\r\n"
        try:
            self._socket.sendall(head.encode())
            first = self._socket.recv(_MOST_BYTES).partition(b"\r\n")[0].decode(errors="replace")
        except TimeoutError:
            waited = time.monotonic() - start
            return Got(Answer.TIMEOUT, connected + waited, "connected, but no answer to the HTTP request came")
        spent = time.monotonic() - start
        if not first.startswith("HTTP/"):
            return Got(Answer.FAILED, connected, f"what answered is no HTTP: {first[:60]!r}", spent)
        return Got(Answer.ANSWERED, connected, first, spent)
