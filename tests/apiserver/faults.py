"""Requests, and what is to go wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

_PATH = re.compile(
    r"(?P<prefix>/api/v1|/apis/[^/]+/[^/]+)(/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(/(?P<name>[^/]+)(/(?P<subresource>exec))?)?"
)


@dataclass(frozen=True)
class Request:
    """A request that came in; `at` is in seconds of the monotonic clock."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    at: float

    def part(self, name: str) -> str:
        """The prefix, namespace, plural or name in the path; empty if there is none."""
        match = _PATH.fullmatch(self.path)
        return (match and match[name]) or ""

    @property
    def plural(self) -> str:
        """The resource, with its subresource: ``pods/exec``."""
        return "/".join(filter(None, (self.part("plural"), self.part("subresource"))))

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"

    @property
    def group(self) -> str:
        """The API group in the path; empty for the core."""
        match self.part("prefix").split("/"):
            case [_, "apis", group, _]:
                return group
            case _:
                return ""

    @property
    def verb(self) -> str:
        """What RBAC calls it."""
        if self.method != "GET":
            return {"POST": "create", "PUT": "update", "DELETE": "delete"}[self.method]
        return "watch" if self.is_watch else "get" if self.part("name") else "list"


class Failure(Exception):
    """An answer that is an error."""

    def __init__(
        self, code: int, reason: str, message: str, headers: Mapping[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
        self.body = msgspec.json.encode({**status, "message": message, "details": details})


@dataclass
class Faults:
    """What goes wrong, as a test orders it.

    `tokens` are the bearer tokens that are accepted (None: no authentication); `rules` are the RBAC rules that hold
    (None: all is allowed); `forbidden` and `absent` name resources.
    While `silent`, nothing is answered. `slow` cuts what is sent into pieces: their size, and the seconds between them.
    """

    failures: list[tuple[Callable[[Request], bool], Failure]] = field(default_factory=list)
    tokens: set[str] | None = None
    rules: Sequence[Mapping[str, Sequence[str]]] | None = None
    forbidden: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    silent: bool = False
    slow: tuple[int, float] | None = None

    def check(self, request: Request, has_certificate: bool) -> None:
        """Raise the `Failure` that is to be the answer to a request, if there is one."""
        token = request.headers.get("Authorization", "").partition(" ")[2]
        if self.tokens is not None and not has_certificate and token not in self.tokens:
            raise Failure(401, "Unauthorized", "Unauthorized")
        for entry in self.failures:
            matches, failure = entry
            if matches(request):
                self.failures.remove(entry)
                raise failure
        if request.plural in self.absent:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        if request.plural in self.forbidden or not self._granted(request):
            message = f'{request.plural} is forbidden: User "kpx" cannot {request.verb} resource "{request.plural}"'
            raise Failure(403, "Forbidden", message)

    def _granted(self, request: Request) -> bool:
        return self.rules is None or any(
            request.group in rule["apiGroups"] and request.plural in rule["resources"] and request.verb in rule["verbs"]
            for rule in self.rules
        )
