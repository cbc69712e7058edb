"""Requests made from the places of a lab, many at once, and what became of each.

A request is one HTTP GET on a connection of its own, or one UDP datagram from a socket of its own: a new flow for the
kernel each time.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from kpx.lab import namespaces
from kpx.net import family_of, join_port

_AT_ONCE = 64
_IP_FREEBIND, _IPV6_FREEBIND, _IPV6_RECVERR = 15, 78, 25  # linux/in.h, linux/in6.h
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_GET = "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"


class Outcome(Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"  # a TCP reset, or ICMP port unreachable
    FORBIDDEN = "forbidden"  # a rule of the sender's own host drops it (EPERM); TCP hides that, and tries again
    TIMEOUT = "timeout"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``namespace`` is where it is made; ``protocol`` is tcp or udp; ``timeout`` is in seconds.

    ``source`` and ``source_port`` are what it is bound to; None and 0 leave the choice to the kernel.
    """

    namespace: str
    protocol: str
    address: str
    port: int
    source: str | None = None
    source_port: int = 0
    timeout: float = 3.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a request: who answered, and as whom (``client``, ``client_port``) it saw the sender.

    ``source_port`` is the port that the request was sent from; ``detail`` says more of a failure.
    """

    outcome: Outcome
    answers: str = ""
    client: str = ""
    client_port: int = 0
    source_port: int = 0
    detail: str = ""


def send(requests: Sequence[Request]) -> list[Reply]:
    """Make all requests, up to 64 at a time, and return what became of each, in the same order.

    A thread of its own does it: the caller's network namespace is never touched.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="lab-requests") as thread:
        return thread.submit(lambda: asyncio.run(_send(requests))).result()


async def _send(requests: Sequence[Request]) -> list[Reply]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(request: Request) -> Reply:
        async with slots:
            return await _exchange(request)

    return await asyncio.gather(*map(one, requests))


async def _exchange(request: Request) -> Reply:
    source_port = 0
    try:
        with _open(request) as connection:
            async with asyncio.timeout(request.timeout):
                await asyncio.get_running_loop().sock_connect(connection, (request.address, request.port))
                source_port = connection.getsockname()[1]
                answer = json.loads(await _converse(request, connection))
            return Reply(Outcome.ANSWERED, answer["answers"], answer["client"], answer["port"], source_port)
    except TimeoutError:
        return Reply(Outcome.TIMEOUT, source_port=source_port)
    except ConnectionRefusedError:
        return Reply(Outcome.REFUSED, source_port=source_port)
    except PermissionError:
        return Reply(Outcome.FORBIDDEN, source_port=source_port)
    except OSError as error:
        return Reply(Outcome.FAILED, source_port=source_port, detail=str(error))
    except (ValueError, LookupError) as error:
        return Reply(Outcome.FAILED, source_port=source_port, detail=f"no answer of the lab's servers: {error}")


def _open(request: Request) -> socket.socket:
    """A socket in the request's namespace, bound to its source; the address may be one that no interface holds."""
    family = family_of(request.address).af
    with namespaces.entered(request.namespace):
        connection = socket.socket(family, _KINDS[request.protocol])
    connection.setblocking(False)
    if family == socket.AF_INET6:
        # Else an ICMPv6 error that arrives within connect() is told only after the first retransmission, 1 s later.
        connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    if request.source is not None or request.source_port:
        if family == socket.AF_INET6:
            connection.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            connection.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind((request.source or "", request.source_port))
    return connection


async def _converse(request: Request, connection: socket.socket) -> bytes:
    """Send the request on a connected socket and return the body of the answer."""
    loop = asyncio.get_running_loop()
    if request.protocol == "udp":
        await loop.sock_sendall(connection, b"who are you?\n")
        return await loop.sock_recv(connection, 4096)
    await loop.sock_sendall(connection, _GET.format(join_port(request.address, request.port)).encode())
    received = b""
    while part := await loop.sock_recv(connection, 4096):
        received += part
    return received.partition(b"\r\n\r\n")[2]
