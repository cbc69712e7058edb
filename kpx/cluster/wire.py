"""The API's JSON, opened no further than needed: envelopes first, then one object at a time.

A list or a watch event is split into items that keep their bytes; each is read into its struct on its own, so that one
object that does not fit leaves the others alone, and an object that has not changed is not read at all.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kpx.cluster.events import Applied, ClusterError, Key, Rejected
from kpx.cluster.objects import EndpointSlice, Kind, Node, Object, Service, ServiceCIDR

_UNREADABLE = (ValueError, RecursionError)  # all that msgspec raises, UnicodeDecodeError with it

_OBJECTS: dict[Kind, msgspec.json.Decoder[Object]] = {
    Kind.SERVICE: msgspec.json.Decoder(Service),
    Kind.ENDPOINT_SLICE: msgspec.json.Decoder(EndpointSlice),
    Kind.NODE: msgspec.json.Decoder(Node),
    Kind.SERVICE_CIDR: msgspec.json.Decoder(ServiceCIDR),
}


class Malformed(ClusterError):
    """What came is not the API's JSON."""


class Item(NamedTuple):
    """An object that has not been read yet; `name` of `key` and `version` are empty where they could not be found."""

    key: Key
    version: str
    raw: msgspec.Raw


class Page(NamedTuple):
    """A list, or a part of one: `token` asks for the rest and is empty in the last part."""

    items: list[Item]
    version: str
    token: str


class Change(NamedTuple):
    """A watch event: ``ADDED``, ``MODIFIED``, ``DELETED``, ``BOOKMARK`` or ``ERROR``."""

    type: str
    item: Item


class _Struct(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Base of the envelopes."""


class _Names(_Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Head(_Struct, frozen=True):
    metadata: _Names = _Names()


class _ListNames(_Struct, frozen=True):
    resource_version: str = ""
    token: str = msgspec.field(default="", name="continue")


class _List(_Struct, frozen=True):
    items: list[msgspec.Raw] | None
    metadata: _ListNames = _ListNames()


class _WatchEvent(_Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Cause(_Struct, frozen=True):
    reason: str = ""


class Details(_Struct, frozen=True):
    causes: list[Cause] | None = None
    retry_after_seconds: int = 0


class Status(_Struct, frozen=True):
    """The API server's word on what went wrong (``v1`` Status)."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: Details | None = None

    @property
    def stale(self) -> bool:
        """Whether the resource version asked for is one that the server no longer has, or does not have yet."""
        causes = (self.details and self.details.causes) or ()
        return self.code == 410 or any(cause.reason == "ResourceVersionTooLarge" for cause in causes)


_HEAD = msgspec.json.Decoder(_Head)
_LIST = msgspec.json.Decoder(_List)
_WATCH_EVENT = msgspec.json.Decoder(_WatchEvent)
_STATUS = msgspec.json.Decoder(Status)


def page(kind: Kind, data: bytes) -> Page:
    """Split the answer to a list into items; raises `Malformed`."""
    try:
        envelope = _LIST.decode(data)
    except _UNREADABLE as error:
        raise Malformed(f"the answer is not a list of the Kubernetes API ({error}); check the address") from error
    items = [item(kind, raw) for raw in envelope.items or ()]
    return Page(items, envelope.metadata.resource_version, envelope.metadata.token)


def change(kind: Kind, line: bytes) -> Change:
    """Open one line of a watch; raises `Malformed`."""
    try:
        event = _WATCH_EVENT.decode(line)
    except _UNREADABLE as error:
        raise Malformed(f"a line of the watch is not an event of the Kubernetes API ({error})") from error
    return Change(event.type, item(kind, event.object))


def item(kind: Kind, raw: msgspec.Raw) -> Item:
    """Find an object's name and version, and leave the rest for `read`."""
    try:
        names = _HEAD.decode(raw).metadata
    except _UNREADABLE:
        return Item(Key(kind, "", ""), "", raw)
    return Item(Key(kind, names.namespace, names.name), names.resource_version, raw)


def read(item: Item) -> Applied | Rejected:
    """Read one object whole. The strings of the event's key are the object's own: they are held once."""
    try:
        decoded = _OBJECTS[item.key.kind].decode(item.raw)
    except _UNREADABLE as error:
        return Rejected(item.key, str(error))
    names = decoded.metadata
    if not names.name:
        return Rejected(item.key, "it has no name")
    return Applied(Key(item.key.kind, names.namespace, names.name), decoded)


def status(data: bytes | msgspec.Raw) -> Status:
    """Read a Status; one without content where `data` is something else (a proxy's page, say)."""
    try:
        return _STATUS.decode(data)
    except _UNREADABLE:
        return Status()
