"""The servers of a lab: one process that answers HTTP and UDP in every place, in that place's network namespace.

A socket stays in the namespace in which it was opened, so one thread and one event loop serve them all. Every answer
is one line of JSON that tells who answers and as whom it sees the client:
``{"answers": "a10", "client": "203.0.113.10", "port": 41234}``.

Started as ``python -m kpx.lab.agent LAB PODS_A PODS_B`` (numbers joined by commas); writes a line once all sockets
are open.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import cast

from kpx.lab import namespaces
from kpx.lab.topology import ROUTER, Place, Role, Topology, namespace

TCP_PORTS = (53, 3306, 6379, 6443, 8080, 8443)
UDP_PORTS = (53, 8080)
BEYOND_PORTS = (80, 81, 443)
_BACKLOG = 512
_IPV6_TRANSPARENT = 75  # linux/in6.h


def _answer(place: str, client: tuple[str, int]) -> bytes:
    seen = {"answers": place, "client": client[0].removeprefix("::ffff:"), "port": client[1]}
    return json.dumps(seen).encode() + b"\n"


class HTTPServer(asyncio.Protocol):
    """HTTP/1.1 for one connection: every request, whatever it asks for, gets the same answer."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end].lower(), self._received[end + 4 :]
            last = b"connection: close" in head
            body = _answer(self._place, self._transport.get_extra_info("peername")[:2])
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                + b"Content-Length: %d\r\n" % len(body)
                + (b"Connection: close\r\n\r\n" if last else b"\r\n")
                + body
            )
            if last:
                self._transport.close()


class UDPServer:
    """Answers every datagram, from the very address that it was sent to."""

    def __init__(self, place: str, listener: socket.socket) -> None:
        self._place = place
        self._socket = listener
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def receive(self) -> None:
        with suppress(OSError):  # a client that cannot be answered is like one that has gone
            _, sent_to, _, client = self._socket.recvmsg(4096, 256)
            self._socket.sendmsg([_answer(self._place, client[:2])], sent_to, 0, client)


def _listener(kind: socket.SocketKind, port: int) -> socket.socket:
    """A socket for both families in the thread's network namespace."""
    listener = socket.socket(socket.AF_INET6, kind)
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)  # answer from Service addresses, too
    listener.bind(("::", port))
    return listener


def _ports(place: Place, ports: tuple[int, ...]) -> tuple[int, ...]:
    """The ports to serve on. The router's servers also stand for those beyond it (see `kpx.lab.topology`)."""
    return (*ports, *BEYOND_PORTS) if place.role is Role.ROUTER else ports


async def serve(lab: str, topology: Topology) -> None:
    """Serve in all places until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for place in topology.places:
        if not place.serves:
            continue
        with namespaces.entered(namespace(lab, place.name)):
            tcp = [_listener(socket.SOCK_STREAM, port) for port in _ports(place, TCP_PORTS)]
            udp = [_listener(socket.SOCK_DGRAM, port) for port in _ports(place, UDP_PORTS)]
        for listener in tcp:
            await loop.create_server(partial(HTTPServer, place.name), sock=listener, backlog=_BACKLOG)
        for listener in udp:
            loop.add_reader(listener, UDPServer(place.name, listener).receive)
    print("ready", flush=True)
    await stop.wait()


def main(lab: str, pods_a: str, pods_b: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The process itself lives in the lab too: that is how `kpx lab down` finds it when its records are lost.
    namespaces.enter(namespace(lab, ROUTER))
    topology = Topology(tuple(map(int, pods_a.split(","))), tuple(map(int, pods_b.split(","))))
    asyncio.run(serve(lab, topology))


if __name__ == "__main__":
    main(*sys.argv[1:])
