"""One connection to the API server: requests in, answers and streams out."""

from __future__ import annotations

import socket
import ssl
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import msgspec

from tests.apiserver import websocket
from tests.apiserver.faults import Failure, Request
from tests.apiserver.store import RESOURCES, Cut, Gone, Resource, Selector, Stored, TooNew, Watcher, selector

if TYPE_CHECKING:
    from tests.apiserver.server import ApiServer, Listener

_GZIP_OVER = 128 * 1024  # as the real server
_NO_LINGER = struct.pack("ii", 1, 0)
_END = b"0\r\n\r\n"


class Hangup(Exception):
    """The connection is of no more use."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def handle(self) -> None:
        with suppress(Hangup, OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """The requests are in `ApiServer.requests`."""

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_PUT(self) -> None:
        self._answer(self._write)

    def do_POST(self) -> None:
        self._answer(self._write)

    def do_DELETE(self) -> None:
        self._answer(self._remove)

    @property
    def _api(self) -> ApiServer:
        return self.server.api

    def _answer(self, method: Callable[[Request, Resource], None]) -> None:
        url = urlsplit(self.path)
        request = Request(self.command, url.path, dict(parse_qsl(url.query)), dict(self.headers), time.monotonic())
        self._api.requests.append(request)
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._wait_while_silent():
            raise Hangup
        try:
            has_certificate = isinstance(self.connection, ssl.SSLSocket) and bool(self.connection.getpeercert())
            self._api.faults.check(request, has_certificate)
            if request.path in ("/healthz", "/livez", "/readyz"):
                self._send(200, b"ok")
                return
            if request.plural == "pods/exec":
                self._execute(request, parse_qsl(url.query))
                return
            resource = RESOURCES.get(request.plural)
            if resource is None or resource.prefix != request.part("prefix"):
                raise Failure(404, "NotFound", "the server could not find the requested resource")
            method(request, resource)
        except Failure as failure:
            self._send(failure.code, failure.body, failure.headers)

    def _wait_while_silent(self) -> bool:
        """Half dead: the connection stays open and nothing comes."""
        was_silent = self._api.faults.silent
        while self._api.faults.silent and not self.server.closing:
            time.sleep(0.01)
        return was_silent

    def _read(self, request: Request, resource: Resource) -> None:
        fields = ",".join(filter(None, (request.query.get("fieldSelector"), _in_namespace(request.part("namespace")))))
        matches = selector(request.query.get("labelSelector", ""), fields)
        if request.part("name"):
            self._send(200, _typed(resource, self._stored(request)))
        elif request.is_watch:
            self._watch(request, resource, matches)
        else:
            self._list(request, resource, matches)

    def _stored(self, request: Request, plural: str = "") -> Stored:
        plural = plural or request.plural
        stored = self._api.store.get(plural, request.part("namespace"), request.part("name"))
        if stored is None:
            raise Failure(404, "NotFound", f'{plural} "{request.part("name")}" not found')
        return stored

    def _list(self, request: Request, resource: Resource, matches: Selector) -> None:
        try:
            objects, version, token = self._api.store.page(resource.plural, matches, request.query)
        except Gone:
            raise Failure(410, "Expired", "the provided continue parameter is too old") from None
        except TooNew:
            causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            raise Failure(504, "Timeout", "Timeout: Too large resource version", causes=causes) from None
        names = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": names}
        body = b",".join(stored.body for stored in objects)
        self._send(200, msgspec.json.encode(head)[:-1] + b',"items":[' + body + b"]}")

    def _watch(self, request: Request, resource: Resource, matches: Selector) -> None:
        try:
            watcher = self._api.store.watch(resource.plural, matches, int(request.query.get("resourceVersion") or 0))
        except Gone:
            raise Failure(410, "Expired", "too old resource version") from None
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._stream(watcher, time.monotonic() + float(request.query.get("timeoutSeconds", 1800)))
        finally:
            self._api.store.unwatch(watcher)

    def _stream(self, watcher: Watcher, until: float) -> None:
        """Send what comes until the watch is over; each event is a chunk, as Go's server sends them."""
        bookmark = time.monotonic() + self._api.bookmark_seconds
        cut: Cut | None = None
        while cut is None and time.monotonic() < until:
            lines = watcher.take(min(until, bookmark) - time.monotonic())
            self._wait_while_silent()
            if not lines:
                self._api.store.bookmark([watcher])
                bookmark += self._api.bookmark_seconds
            cut = next((line for line in lines if isinstance(line, Cut)), None)
            whole = [line for line in lines[: lines.index(cut) if cut else None] if isinstance(line, bytes)]
            self._write_out(b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in whole))
        if cut in (None, Cut.CLOSE):
            self._write_out(_END)
            return
        if cut is Cut.MID_LINE:
            line = b'{"type":"ADDED","object":{"kind":"Service","metadata":{"name":"half'
            self._write_out(b"%x\r\n%b" % (2 * len(line), line))
        self._reset()

    def _write(self, request: Request, resource: Resource) -> None:
        object_ = msgspec.json.decode(self._body)
        names = object_["metadata"]
        if request.method == "POST" and self._api.store.get(resource.plural, names.get("namespace", ""), names["name"]):
            raise Failure(409, "AlreadyExists", f'{resource.plural} "{names["name"]}" already exists')
        self._send(201, _typed(resource, self._api.put(object_)))

    def _execute(self, request: Request, query: list[tuple[str, str]]) -> None:
        """What the kubelet does: run the command, and send what it writes over a WebSocket."""
        self._stored(request, "pods")
        websocket.accept(self)
        command = [value for name, value in query if name == "command"]
        websocket.send(self.wfile, self._api.execute(request.part("name"), command))
        raise Hangup

    def _remove(self, request: Request, _resource: Resource) -> None:
        stored = self._stored(request)
        self._api.store.delete(request.plural, stored.namespace, stored.name)
        self._send(200, b'{"kind":"Status","apiVersion":"v1","status":"Success"}')

    def _send(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        if len(body) > _GZIP_OVER and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = zlib.compress(body, 1, wbits=31)
            self.send_header("Content-Encoding", "gzip")
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._write_out(body)

    def _write_out(self, data: bytes) -> None:
        if not self._api.faults.slow:
            self.wfile.write(data)
            return
        size, pause = self._api.faults.slow
        for start in range(0, len(data), size):
            self.wfile.write(data[start : start + size])
            time.sleep(pause)

    def _reset(self) -> None:
        """Close so that the client gets a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.rfile.close()
        self.connection.close()
        raise Hangup


def _in_namespace(namespace: str) -> str:
    return f"metadata.namespace={namespace}" if namespace else ""


def _typed(resource: Resource, stored: Stored) -> bytes:
    return f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode() + stored.body[1:]
