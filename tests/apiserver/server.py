"""The API server itself: where it listens, and what a test can do to it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import Any

from tests.apiserver.faults import Failure, Faults, Request
from tests.apiserver.handler import Handler
from tests.apiserver.store import RESOURCES, Cut, Store, Stored
from tests.apiserver.websocket import Execution


class ApiServer:
    """An API server on a port of the loopback address: `start` it, `stop` it, and `start` it again on the same port.

    Objects are in `store`, all requests so far in `requests`; what has been ordered to go wrong is in `faults`.
    `execute` runs a command in the pod of a name.
    """

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None, bookmark_seconds: float = 60.0) -> None:
        self.store = Store()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.bookmark_seconds = bookmark_seconds
        self.port = port
        self.tls = tls
        self.execute: Callable[[str, list[str]], Execution] = lambda *_: Execution(126, b"", b"")
        self._listener: Listener | None = None

    def __enter__(self) -> ApiServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen."""
        self._listener = Listener(self)
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), name="apiserver", daemon=True).start()

    def stop(self) -> None:
        """Vanish: listen no more, and reset what is connected."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown()
            listener.server_close()
            listener.closing = True
            self.cut()
            listener.hang_up()

    def put(self, object_: Mapping[str, Any]) -> Stored:
        """Create or update an object."""
        return self.store.put(object_)

    def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        """Remove an object."""
        self.store.delete(plural, namespace if RESOURCES[plural].namespaced else "", name)

    def fail(self, failure: Failure, times: int = 1, *, plural: str = "", watch: bool | None = None) -> None:
        """Answer the next requests with an error: all, those for one resource, only lists, or only watches."""

        def matches(request: Request) -> bool:
            return plural in ("", request.plural) and watch in (None, request.is_watch)

        self.faults.failures += [(matches, failure)] * times

    def cut(self, plural: str = "", how: Cut = Cut.RESET) -> None:
        """End the watches that are open now."""
        for watcher in self.store.watchers(plural):
            watcher.lines.put(how)

    def inject(self, plural: str, line: bytes) -> None:
        """Send any bytes as an event in the watches of a resource."""
        for watcher in self.store.watchers(plural):
            watcher.lines.put(line)

    def bookmark(self) -> None:
        """Send a bookmark in every watch, now."""
        self.store.bookmark(self.store.watchers())


class Listener(ThreadingHTTPServer):
    """Accepts connections, each for a thread of its own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.closing = False
        self._sockets: set[socket.socket] = set()
        super().__init__(("127.0.0.1", api.port), Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.api.tls:
            connection = self.api.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._sockets.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._sockets.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Wake the threads that wait for a request."""
        for connection in list(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away at any time, or not trust us: no traceback for that."""
