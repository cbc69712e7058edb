"""What the daemon's unix socket answers: the journal as JSON (docs/json.md), for the tools and for scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice

import msgspec

from kpx.net import Family
from kpx.proxier.frontends import Frontends
from kpx.proxier.http_messages import JSON, NOT_FOUND, Request, Response
from kpx.proxier.journal import Journal
from kpx.proxier.published import API_VERSION, Listed, Status, publish

# Service ports that are encoded in one go: about a millisecond of work.
_AT_A_TIME = 50


class ToolPages:
    """The handler of the unix socket. ``status`` is what holds all the time; its families are filled in."""

    def __init__(self, journal: Journal, status: Status) -> None:
        self._journal = journal
        self._status = status
        self._pages: dict[str, Callable[[Mapping[str, str]], Response]] = {
            "/v1/status": self._tell_status,
            "/v1/frontends": self._tell_frontends,
            "/v1/syncs": lambda _: _json(Listed(syncs=journal.syncs())),
            "/v1/drift": lambda _: _json(Listed(drift=journal.drift())),
            "/v1/rejected": lambda _: _json(Listed(rejected=journal.left_out(), conflicts=journal.conflicts())),
        }

    def __call__(self, request: Request) -> Response:
        page = self._pages.get(request.path)
        if page is None:
            return NOT_FOUND
        if request.method not in ("GET", "HEAD"):
            return Response(b"only GET is served here\n", HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        return page(request.query)

    def _tell_status(self, _: Mapping[str, str]) -> Response:
        return _json(msgspec.structs.replace(self._status, families=self._journal.states()))

    def _tell_frontends(self, query: Mapping[str, str]) -> Response:
        """All service ports, or those that have the asked ``family``, ``namespace`` and ``name``.

        With ``address``, ``port`` or both, those that answer there: node ports on every address.
        """
        asked, port = query.get("family"), query.get("port", "0")
        if asked is not None and asked not in {family.value for family in Family}:
            return Response(b"family is IPv4 or IPv6\n", HTTPStatus.BAD_REQUEST)
        if not (port.isascii() and port.isdigit()):
            return Response(b"port is a number\n", HTTPStatus.BAD_REQUEST)
        families = [family for family in Family if asked in (None, family.value)]
        namespace, name, address = query.get("namespace"), query.get("name"), query.get("address")

        def wanted(one: Frontends) -> bool:
            named = namespace in (None, one.port.namespace) and name in (None, one.port.name)
            return named and (not (address or int(port)) or one.answers(address, int(port)))

        found = [(family, one) for family in families for one in self._journal.frontends(family) if wanted(one)]
        return Response(b"", content_type=JSON, parts=_listed(found))


def _json(answer: Status | Listed) -> Response:
    return Response(msgspec.json.encode(answer) + b"\n", content_type=JSON)


def _listed(found: Iterable[tuple[Family, Frontends]]) -> Iterator[bytes]:
    """A list of service ports, encoded as it is sent: it is never in memory whole."""
    rest, separator = iter(found), b""
    yield b'{"apiVersion":"%b","frontends":[' % API_VERSION.encode()
    while some := [publish(family, one) for family, one in islice(rest, _AT_A_TIME)]:
        yield separator + msgspec.json.encode(some)[1:-1]
        separator = b","
    yield b"]}\n"
