"""HTTP to an API server: requests and streams, credentials that are renewed, and a limit on the rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import HTTPError

from kpx import __version__
from kpx.cluster.kubernetes.credentials import Access, load
from kpx.cluster.kubernetes.errors import Refused, Untrusted, unreachable
from kpx.cluster.wire import Status, status

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0

_HEADERS = {"Accept": "application/json", "User-Agent": f"kpx/{__version__} (linux)"}


class RateLimit:
    """The client's own limit: `qps` requests a second in the long run, `burst` at once; none if `qps` is negative."""

    def __init__(self, qps: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._qps = qps
        self._burst = max(1, burst)
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = float(self._burst)
        self._filled = clock()

    def reserve(self) -> float:
        """Take a place in the queue; how long to wait for it, in seconds."""
        if self._qps <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._qps) - 1
            self._filled = now
            return max(0.0, -self._tokens / self._qps)


class Stream:
    """An answer that comes line by line for as long as it lasts."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self._url = url

    def lines(self) -> Iterator[bytes]:
        """Whole lines as they come; ends where the server ends the answer. Raises `Unreachable`."""
        rest = b""
        while data := self._read():
            *lines, rest = (rest + data).split(b"\n")
            yield from lines

    def interrupt(self) -> None:
        """Wake the thread that waits for a line: for it, the answer ends or breaks. For any thread."""
        with suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()

    def _read(self) -> bytes:
        try:
            return self._response.read1()
        except (HTTPError, OSError, ValueError) as error:  # the last two from a socket that another thread shut down
            raise unreachable(self._url, error) from error


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    silence: float = SILENCE_SECONDS

    def url(self, server: str) -> str:
        return f"{server}{self.path}{'?' if self.query else ''}{urlencode(self.query)}"


Answered = Callable[[str, str, str, float], None]
"""Told of each request: the method, the status code (``<error>`` without an answer), the host, the seconds it took."""


class Connection:
    """Requests to one API server, from any thread; `answered` is told of each.

    All methods raise `ClusterError`: `Refused` if the server answers with an error, `Unreachable` if it does not.
    """

    def __init__(self, load: Callable[[], Access], rate: RateLimit, answered: Answered = lambda *_: None) -> None:
        self._load = load
        self._rate = rate
        self._answered = answered
        self._lock = threading.Lock()
        self._access = load()

    @classmethod
    def from_config(
        cls,
        kubeconfig: str = "",
        master: str = "",
        qps: float = 5.0,
        burst: int = 10,
        answered: Answered = lambda *_: None,
    ) -> Connection:
        """As kube-proxy's ``clientConnection`` and ``--master`` say. Reads the configuration, sends nothing yet."""
        return cls(partial(load, kubeconfig, master), RateLimit(qps, burst), answered)

    @property
    def url(self) -> str:
        """The API server's address."""
        return self._access.url

    def refused(self, status: Status) -> Refused:
        """The error for a Status that came within an answer."""
        return Refused(self._access.url, self._access.identity, status)

    def get(self, path: str, query: Mapping[str, str] | None = None, silence: float = SILENCE_SECONDS) -> bytes:
        """The whole answer to a GET; nothing may be waited for longer than `silence` seconds."""
        return self._whole(_Request("GET", path, query or {}, {"Accept-Encoding": "gzip"}, silence=silence))

    def post(self, path: str, body: bytes) -> bytes:
        """Create an object from its JSON; the answer is the object as it was stored."""
        return self._whole(_Request("POST", path, headers={"Content-Type": "application/json"}, body=body))

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str], silence: float) -> Iterator[Stream]:
        """The answer to a GET as a stream, which breaks when nothing comes for `silence` seconds."""
        response = self._open(_Request("GET", path, query, silence=silence))
        try:
            yield Stream(response, self.url)
        finally:
            response.close()
            response.release_conn()

    def _whole(self, request: _Request) -> bytes:
        response = self._open(request)
        try:
            return response.data
        except HTTPError as error:
            raise unreachable(self.url, error) from error
        finally:
            response.release_conn()

    def _open(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """Send a request; where the credentials may be to blame, read them again and send it once more."""
        access = self._access
        try:
            return self._send(request, access)
        except Untrusted:
            pass
        except Refused as refusal:
            # Without credentials we are anonymous, whom the server forbids what it would ask a stranger to log in for.
            if refusal.status.code not in ((401,) if access.authenticated else (401, 403)):
                raise
        return self._send(request, self._renewed(access))

    def _send(self, request: _Request, access: Access) -> urllib3.BaseHTTPResponse:
        time.sleep(self._rate.reserve())
        with self._lock:
            authorization = access.authorization()
        headers = {**_HEADERS, **request.headers} | ({"Authorization": authorization} if authorization else {})
        code, started = "<error>", time.monotonic()
        try:
            response = access.pool.request(
                request.method,
                request.url(access.url),
                body=request.body,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, request.silence), read=request.silence),
                preload_content=False,
                retries=False,
            )
            code = str(response.status)
            if response.status >= 300:
                raise _refusal(response, access)
            return response
        except (HTTPError, ValueError) as error:
            raise unreachable(access.url, error) from error
        finally:
            self._answered(request.method, code, urlsplit(access.url).netloc, time.monotonic() - started)

    def _renewed(self, stale: Access) -> Access:
        """Load the credentials again: once, however many threads found that `stale` does not do."""
        with self._lock:
            if self._access is stale:
                self._access = self._load()
            return self._access


def _refusal(response: urllib3.BaseHTTPResponse, access: Access) -> Refused:
    said = status(response.data)
    response.release_conn()
    said = msgspec.structs.replace(said, code=response.status, reason=said.reason or response.reason or "")
    retry_after = response.headers.get("Retry-After", "")
    return Refused(access.url, access.identity, said, float(retry_after) if retry_after.isdecimal() else 0.0)
