"""HTTP/1.1 requests and responses as bytes: as much of RFC 9112 as health checks and scrapers use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

_BODY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Request:
    """A request; ``headers`` are by lower-case name, ``query`` has the last value of each parameter."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    version: str = "HTTP/1.1"
    body: bytes = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants to send more requests on its connection."""
        wish = self.headers.get("connection", "").lower()
        return wish == "keep-alive" if self.version == "HTTP/1.0" else wish != "close"

    @property
    def body_length(self) -> int:
        """The length of the body that follows the head; raises `BadRequest` if this server cannot read it."""
        if "transfer-encoding" in self.headers:
            raise BadRequest(HTTPStatus.NOT_IMPLEMENTED)
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        if int(length) > _BODY_BYTES:
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return int(length)

    def with_body(self, body: bytes) -> Request:
        return replace(self, body=body)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, plain text by default. A long one is made while it is sent: ``parts`` then follow the body."""

    body: bytes
    status: int = HTTPStatus.OK
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: Iterable[bytes] | None = None

    def whole(self) -> Response:
        """The same answer in one piece."""
        return replace(self, body=b"".join((self.body, *(self.parts or ()))), parts=None)


Handler = Callable[[Request], Response]

NOT_FOUND = Response(b"404 page not found\n", HTTPStatus.NOT_FOUND)


class BadRequest(Exception):
    """What a client sent is no request, or not one that this server reads; ``status`` is the answer."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status

    @property
    def response(self) -> Response:
        return Response(f"{self.status.value} {self.status.phrase}\n".encode(), self.status)


def parse_head(head: bytes) -> Request:
    """The request whose head, up to and with its empty line, is given; raises `BadRequest`."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    method, target, version = parts
    try:
        url = urlsplit(target)
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST) from error
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    return Request(method, unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True)), headers, version)


def render(response: Response, *, head_only: bool, close: bool) -> bytes:
    """The bytes of a response, up to its parts; browsers are told not to guess another type than it has (nosniff)."""
    headers = {"Content-Type": response.content_type, "X-Content-Type-Options": "nosniff", **response.headers}
    if close:
        headers["Connection"] = "close"
    status = HTTPStatus(response.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        *(f"{name}: {value}" for name, value in sorted(headers.items())),
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Length: {len(response.body)}" if response.parts is None else "Transfer-Encoding: chunked",
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    if head_only:
        return head
    return head + (response.body if response.parts is None else chunk(response.body))


def chunk(data: bytes) -> bytes:
    """A part of a body; nothing where it is empty, since that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
