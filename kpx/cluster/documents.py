"""YAML and JSON text to objects, as an API server would hand them out: several documents a text, and ``List`` kinds."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise

import msgspec
import yaml

from kpx.cluster import wire
from kpx.cluster.defaults import default_namespace, selected, stored
from kpx.cluster.events import Applied, ClusterError, Key, Rejected
from kpx.cluster.objects import Kind
from kpx.logs import v

logger = logging.getLogger(__name__)

Found = Applied | Rejected
Parts = Mapping[bytes, tuple[Found, ...]]
"""What was found in each part of a text, by the part's digest: a part that has not changed is not parsed again."""

_KINDS = {
    ("v1", "Service"): Kind.SERVICE,
    ("discovery.k8s.io/v1", "EndpointSlice"): Kind.ENDPOINT_SLICE,
    ("v1", "Node"): Kind.NODE,
    ("networking.k8s.io/v1", "ServiceCIDR"): Kind.SERVICE_CIDR,
}
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unparsable(ClusterError):
    """A text that is neither YAML nor JSON, or is not all there yet; says in which line."""


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    items: list[msgspec.Raw] | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def parse(name: str, data: bytes, node_name: str | None, known: Parts) -> Parts:
    """All objects in the file `name` that a proxy on `node_name` is to have, in order; raises `Unparsable`.

    Without a node all objects, those too that are for no proxy. `known` is what the file's last text gave.
    """
    reader = _Reader(name, node_name)
    return {
        digest: known[digest] if digest in known else tuple(reader.read(text, line))
        for digest, text, line in _parts(name, data)
    }


def _parts(name: str, data: bytes) -> Iterator[tuple[bytes, str, int]]:
    """The documents of a text, each with its digest and the number of its first line."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Unparsable(f"{name} is not UTF-8: {error}") from error
    line = 1
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for start, end in pairwise(starts):
        part = text[start:end]
        yield hashlib.blake2b(part.encode(), digest_size=16).digest(), part, line
        line += part.count("\n")


class _Reader:
    """Reads the documents of one file, for one node, or whatever is in it."""

    def __init__(self, name: str, node_name: str | None) -> None:
        self._name = name
        self._node_name = node_name

    def read(self, text: str, line: int) -> Iterator[Found]:
        """What is in a part that begins at `line`."""
        for document in self._documents(text, line):
            yield from self._objects(msgspec.Raw(document), _Envelope())

    def _documents(self, text: str, line: int) -> list[bytes]:
        """The documents of a part as JSON: the text itself, if it is JSON already."""
        if text.lstrip().startswith("{"):
            with suppress(ValueError, RecursionError):  # YAML in flow style, or not whole: the other parser says which
                return [bytes(msgspec.json.decode(text, type=msgspec.Raw))]
        try:
            documents = yaml.load_all(text, Loader=_YAML_LOADER)
            return [msgspec.json.encode(document) for document in documents if document is not None]
        except yaml.MarkedYAMLError as error:
            line += min(error.problem_mark.line if error.problem_mark else 0, text.rstrip().count("\n"))
            raise Unparsable(f"{self._name}, line {line}: {error.problem or error.context}") from error
        except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
            raise Unparsable(f"{self._name}, in the document at line {line}: {error}") from error

    def _objects(self, raw: msgspec.Raw, outer: _Envelope) -> Iterator[Found]:
        """The object in a document, or those in a list: of kind ``List``, or of one whose items name no kind."""
        try:
            envelope = _ENVELOPE.decode(raw)
        except (ValueError, RecursionError) as error:
            logger.warning("%s: a document is not a Kubernetes object: %s", self._name, error)
            return
        api_version = envelope.api_version or outer.api_version
        named = envelope.kind or outer.kind.removesuffix("List")
        if named.endswith("List") and envelope.items is not None:
            for item in envelope.items:
                yield from self._objects(item, envelope)
        elif kind := _KINDS.get((api_version, named)):
            yield from self._delivered(wire.read(wire.item(kind, raw)))
        else:
            v(2, logger, "%s: kind %r of API version %r is left out", self._name, named, api_version)

    def _delivered(self, found: Found) -> Iterator[Found]:
        kind, namespace, name = found.key
        key = Key(kind, namespace or default_namespace(kind), name)
        if isinstance(found, Rejected):
            yield Rejected(key, f"{self._name}: {found.reason}")
            return
        object_ = stored(found.object)
        if self._node_name is None or selected(object_, self._node_name):
            yield Applied(key, object_)
