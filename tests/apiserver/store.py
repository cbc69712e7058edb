"""What an API server keeps: objects with versions, their history, and who watches."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec


@dataclass(frozen=True)
class Resource:
    """A kind of object and where it is served."""

    plural: str
    kind: str
    api_version: str
    namespaced: bool

    @property
    def prefix(self) -> str:
        return f"/{'apis' if '/' in self.api_version else 'api'}/{self.api_version}"


RESOURCES = {
    resource.plural: resource
    for resource in (
        Resource("services", "Service", "v1", True),
        Resource("endpointslices", "EndpointSlice", "discovery.k8s.io/v1", True),
        Resource("nodes", "Node", "v1", False),
        Resource("pods", "Pod", "v1", True),
        Resource("servicecidrs", "ServiceCIDR", "networking.k8s.io/v1", False),
        Resource("events", "Event", "events.k8s.io/v1", True),
    )
}
BY_KIND = {(resource.api_version, resource.kind): resource for resource in RESOURCES.values()}


class Cut(Enum):
    """How to end a watch."""

    CLOSE = "the answer ends"
    RESET = "the connection is reset"
    MID_LINE = "the connection is reset in the middle of the next event"


class Gone(Exception):
    """The version asked for is no longer kept."""


class TooNew(Exception):
    """The version asked for is not there yet."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object at one version; `body` is its JSON without apiVersion and kind, as lists have it."""

    namespace: str
    name: str
    version: int
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    body: bytes

    def at(self, version: int) -> bytes:
        """The body as it was when it was removed at a later version."""
        decoded = msgspec.json.decode(self.body)
        decoded["metadata"]["resourceVersion"] = str(version)
        return msgspec.json.encode(decoded)


@dataclass(frozen=True, slots=True)
class Change:
    version: int
    before: Stored | None
    after: Stored | None


Selector = Callable[[Stored], bool]


def selector(labels: str, fields: str) -> Selector:
    """The meaning of ``labelSelector`` and ``fieldSelector``."""
    terms = [(True, term) for term in labels.split(",") if term] + [(False, term) for term in fields.split(",") if term]

    def matches(stored: Stored) -> bool:
        return all(_holds(term, stored.labels if is_label else stored.fields) for is_label, term in terms)

    return matches


def _holds(term: str, values: Mapping[str, str]) -> bool:
    if "!=" in term:
        name, _, value = term.partition("!=")
        return values.get(name) != value
    if "=" in term:
        name, _, value = term.partition("=")
        return values.get(name) == value.removeprefix("=")
    return term[1:] not in values if term.startswith("!") else term in values


@dataclass(eq=False)
class Watcher:
    """A watch that is open, and what it has still to send."""

    resource: Resource
    selector: Selector
    lines: queue.SimpleQueue[bytes | Cut] = field(default_factory=queue.SimpleQueue)

    def take(self, timeout: float) -> list[bytes | Cut]:
        """All that is there, after waiting up to `timeout` seconds for the first."""
        taken: list[bytes | Cut] = []
        with suppress(queue.Empty):
            taken.append(self.lines.get(timeout=max(0.0, timeout)))
            while True:
                taken.append(self.lines.get_nowait())
        return taken

    def send(self, change: Change) -> None:
        """Queue what a change is to this watch: an object that leaves its selection is deleted for it."""
        was = change.before is not None and self.selector(change.before)
        now = change.after is not None and self.selector(change.after)
        if now and change.after:
            self._line("MODIFIED" if was else "ADDED", change.after.body)
        elif was and change.before:
            self._line("DELETED", change.before.at(change.version))

    def bookmark(self, version: int) -> None:
        self._line("BOOKMARK", b'{"metadata":{"resourceVersion":"%d"}}' % version)

    def _line(self, type_: str, body: bytes) -> None:
        head = (
            f'{{"type":"{type_}","object":{{"kind":"{self.resource.kind}","apiVersion":"{self.resource.api_version}",'
        )
        self.lines.put(head.encode() + body[1:] + b"}\n")


class Store:
    """All objects. Every write has a version, one count for all resources, as etcd has it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._objects: dict[str, dict[tuple[str, str], Stored]] = {plural: {} for plural in RESOURCES}
        self._history: dict[str, deque[Change]] = {plural: deque(maxlen=200_000) for plural in RESOURCES}
        self._oldest = 0
        self._watchers: set[Watcher] = set()
        self._snapshots: dict[str, tuple[int, list[Stored]]] = {}
        self._tokens = itertools.count(1)
        self.version = 1
        self.has_cache = True

    def put(self, object_: Mapping[str, Any]) -> Stored:
        """Create or update an object from its JSON form."""
        resource = BY_KIND[object_["apiVersion"], object_["kind"]]
        metadata = dict(object_["metadata"])
        if resource.namespaced:
            metadata.setdefault("namespace", "default")
        key = (metadata.get("namespace", ""), metadata["name"])
        with self._lock:
            before = self._objects[resource.plural].get(key)
            self.version += 1
            metadata["resourceVersion"] = str(self.version)
            metadata.setdefault("uid", f"00000000-0000-4000-8000-{self.version:012d}")
            metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            rest = {name: value for name, value in object_.items() if name not in ("apiVersion", "kind", "metadata")}
            body = msgspec.json.encode({"metadata": metadata, **rest})
            fields = {"metadata.name": key[1], "metadata.namespace": key[0]}
            if resource.kind == "Service":
                fields["spec.clusterIP"] = object_.get("spec", {}).get("clusterIP", "")
            after = Stored(*key, self.version, metadata.get("labels") or {}, fields, body)
            self._objects[resource.plural][key] = after
            self._record(resource, Change(self.version, before, after))
        return after

    def delete(self, plural: str, namespace: str, name: str) -> bool:
        """Remove an object; whether it was there."""
        with self._lock:
            before = self._objects[plural].pop((namespace, name), None)
            if before:
                self.version += 1
                self._record(RESOURCES[plural], Change(self.version, before, None))
        return before is not None

    def get(self, plural: str, namespace: str, name: str) -> Stored | None:
        return self._objects[plural].get((namespace, name))

    def page(self, plural: str, matches: Selector, query: Mapping[str, str]) -> tuple[list[Stored], int, str]:
        """A page: objects, version, and the token for the next one. Raises `Gone` and `TooNew`.

        From its cache, that is where any version is named, the server answers whole, whatever the limit.
        """
        limit, token, version = int(query.get("limit", 0)), query.get("continue", ""), query.get("resourceVersion", "")
        with self._lock:
            if version and int(version) > self.version:
                raise TooNew
            if token:
                at, rest = self._snapshot(token)
            else:
                at = self.version
                rest = [stored for _, stored in sorted(self._objects[plural].items()) if matches(stored)]
            if (version and self.has_cache) or not limit or len(rest) <= limit:
                return rest, at, ""
            token = f"token-{next(self._tokens)}"
            self._snapshots[token] = (at, rest[limit:])
            return rest[:limit], at, token

    def watch(self, plural: str, matches: Selector, since: int) -> Watcher:
        """Watch from a version on; raises `Gone`. From 0 on, all objects are told as added."""
        watcher = Watcher(RESOURCES[plural], matches)
        with self._lock:
            if since and since < self._oldest:
                raise Gone
            if not since:
                for stored in self._objects[plural].values():
                    watcher.send(Change(stored.version, None, stored))
            for change in self._history[plural] if since else ():
                if change.version > since:
                    watcher.send(change)
            self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.discard(watcher)

    def watchers(self, plural: str = "") -> list[Watcher]:
        """The watches that are open, of one resource or of all."""
        with self._lock:
            return [watcher for watcher in self._watchers if plural in ("", watcher.resource.plural)]

    def bookmark(self, watchers: list[Watcher]) -> None:
        """Tell watches how far they are."""
        with self._lock:
            for watcher in watchers:
                watcher.bookmark(self.version)

    def compact(self) -> None:
        """Forget the history: a watch or a page from before now is gone."""
        with self._lock:
            self.version += 1
            self._oldest = self.version
            self._snapshots.clear()
            for history in self._history.values():
                history.clear()

    def _snapshot(self, token: str) -> tuple[int, list[Stored]]:
        if token not in self._snapshots:
            raise Gone
        return self._snapshots[token]

    def _record(self, resource: Resource, change: Change) -> None:
        self._history[resource.plural].append(change)
        for watcher in self._watchers:
            if watcher.resource is resource:
                watcher.send(change)
