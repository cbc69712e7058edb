"""A small HTTP server: one thread serves any number of ports, each with a handler of its own.

A node may have hundreds of health-check node ports, so a thread for each, or for each connection, will not do. Requests
are small and answered from memory; connections that stay silent are closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from kpx.net import Family, family_of, join_port
from kpx.proxier import unix_socket
from kpx.proxier.http_messages import LAST_CHUNK, BadRequest, Handler, Request, Response, chunk, parse_head, render

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 5.0
_IDLE_SECONDS = 60.0
_EXHAUSTED_SECONDS = 1.0
_HEAD_BYTES = 16 << 10
_BACKLOG = 128
_UNSPECIFIED = ("0.0.0.0", "::")


class ListenError(OSError):
    """A port cannot be served; the text is a sentence that names it."""

    def __init__(self, address: str, port: int, error: OSError) -> None:
        code = error.errno or errno.EIO
        super().__init__(code, f"cannot listen on {join_port(address, port)}: {os.strerror(code)}")

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is being served."""

    port: int
    close: Callable[[], None]


class HTTPServer:
    """Serves ports until it is closed. Handlers run on its thread, one at a time, and must not block."""

    def __init__(self, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._retry_seconds = retry_seconds
        self._ports: set[_Port] = set()
        self._retries: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http")
        self._thread.start()

    def listen(self, address: str, port: int, handler: Handler, *, family: Family | None = None) -> Listener:
        """Serve a port from now on; port 0 takes a free one. Raises `ListenError` if it cannot be bound.

        The unspecified addresses (``0.0.0.0``, ``::``) stand for both families unless `family` names one, as in Go.
        """
        listening = _bind(address, port, family)
        served = self._on_loop(self._serve(listening, handler))
        return Listener(listening.getsockname()[1], lambda: self._on_loop(self._withdraw(served)))

    def keep_trying(self, address: str, port: int, handler: Handler, what: str) -> None:
        """Serve a port now if it can be bound, or else as soon as one of the attempts every 5 s succeeds."""
        if not self._on_loop(self._attempt(address, port, handler, what)):
            self._on_loop(self._in_background(self._retry(address, port, handler, what)))

    def offer(self, path: Path, handler: Handler, what: str) -> None:
        """Serve a unix socket that only root may use, as soon as it can be made.

        Nobody is kept waiting by what stands in the way: it is warned about, once.
        """
        self._on_loop(self._in_background(self._offer(path, handler, what)))

    def close(self) -> None:
        """Close all ports and connections, and end the thread."""
        self._on_loop(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _serve(self, listening: socket.socket, handler: Handler) -> _Port:
        port = _Port(listening, handler)
        self._ports.add(port)
        return port

    async def _withdraw(self, port: _Port) -> None:
        self._ports.discard(port)
        await port.close()

    async def _attempt(self, address: str, port: int, handler: Handler, what: str) -> bool:
        try:
            await self._serve(_bind(address, port, None), handler)
        except ListenError as error:
            logger.error("%s: %s; trying again in %g s", what, error, self._retry_seconds)
            return False
        return True

    async def _retry(self, address: str, port: int, handler: Handler, what: str) -> None:
        await asyncio.sleep(self._retry_seconds)
        while not await self._attempt(address, port, handler, what):
            await asyncio.sleep(self._retry_seconds)

    async def _offer(self, path: Path, handler: Handler, what: str) -> None:
        told = ""
        while True:
            try:
                await self._serve(unix_socket.listen(path, _BACKLOG), handler)
            except OSError as error:
                if str(error) != told:
                    told = str(error)
                    logger.warning("%s: %s; it is tried again every %g s", what, error, self._retry_seconds)
                await asyncio.sleep(self._retry_seconds)
            else:
                return

    async def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)

    async def _shut_down(self) -> None:
        for retry in self._retries:
            retry.cancel()
        await asyncio.gather(*self._retries, return_exceptions=True)
        for port in list(self._ports):
            await self._withdraw(port)


class _Port:
    """A listening socket, its handler and its open connections; lives on the server's thread."""

    def __init__(self, listening: socket.socket, handler: Handler) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._handler = handler
        self._conversations: set[asyncio.Task[None]] = set()
        listening.setblocking(False)
        self._resume()

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    async def close(self) -> None:
        self._loop.remove_reader(self._listening)
        self._listening.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no file descriptor is left: others may end meanwhile
            logger.error("no connection can be accepted: %s", error)
            self._loop.remove_reader(self._listening)
            self._loop.call_later(_EXHAUSTED_SECONDS, self._resume)
            return
        conversation = self._loop.create_task(self._converse(connection))
        self._conversations.add(conversation)
        conversation.add_done_callback(partial(self._ended, connection))

    def _ended(self, connection: socket.socket, conversation: asyncio.Task[None]) -> None:
        connection.close()
        self._conversations.discard(conversation)

    async def _converse(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=_HEAD_BYTES)
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                while await self._exchange(reader, writer):
                    pass
                writer.close()
                async with asyncio.timeout(_IDLE_SECONDS):
                    await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays open for another."""
        async with asyncio.timeout(_IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            try:
                request = parse_head(head)
                request = request.with_body(await reader.readexactly(request.body_length))
            except BadRequest as error:
                writer.write(render(error.response, head_only=False, close=True))
                await writer.drain()
                return False
            close = not request.keep_alive
            answer = self._answer(request)
            if request.version == "HTTP/1.0":
                answer = answer.whole()
            head_only = request.method == "HEAD"
            writer.write(render(answer, head_only=head_only, close=close))
            await writer.drain()
            if answer.parts is None or head_only:
                return not close
            try:
                await self._send_parts(answer.parts, writer)
            except OSError:
                raise
            except Exception:
                logger.exception("%s %s failed", request.method, request.path)
                return False
            return not close

    async def _send_parts(self, parts: Iterable[bytes], writer: asyncio.StreamWriter) -> None:
        """Send a long body bit by bit; the other connections have their turn in between."""
        for part in parts:
            writer.write(chunk(part))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(LAST_CHUNK)
        await writer.drain()

    def _answer(self, request: Request) -> Response:
        try:
            return self._handler(request)
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return Response(b"500 Internal Server Error\n", HTTPStatus.INTERNAL_SERVER_ERROR)


def _bind(address: str, port: int, family: Family | None) -> socket.socket:
    """A listening socket; raises `ListenError`."""
    both = family is None and address in _UNSPECIFIED and socket.has_dualstack_ipv6()
    host = "::" if both else address
    try:
        return socket.create_server((host, port), family=family_of(host).af, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise ListenError(address, port, error) from error
