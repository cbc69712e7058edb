"""The one stream of events that every source of objects produces."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kpx.cluster.objects import Kind, Object


class Key(NamedTuple):
    """The name of an object; ``namespace`` is empty for cluster-scoped kinds."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Applied:
    """An object was added, or is now like this."""

    key: Key
    object: Object


@dataclass(frozen=True, slots=True)
class Removed:
    """An object is gone."""

    key: Key


@dataclass(frozen=True, slots=True)
class Synced:
    """The full initial list of a kind has been delivered. Comes once for each kind, however often it is listed."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that could not be read was left out (until it is mended); ``reason`` is one sentence for the log.

    The name in ``key`` is empty where not even that could be read. `Removed` follows when the bad object is gone.
    """

    key: Key
    reason: str


Event = Applied | Removed | Synced | Rejected


class ClusterError(Exception):
    """A source does not work as it is configured; the text is one sentence that says what to do about it."""


class Source(Protocol):
    """Where objects come from. Every source leaves out what kube-proxy's list and watch selectors leave out:

    Services with the label ``service.kubernetes.io/service-proxy-name`` or with ``clusterIP: None``, EndpointSlices
    with the label ``service.kubernetes.io/headless``, and all Nodes but the proxy's own.
    """

    def run(self, emit: Callable[[Event], None], stop: threading.Event) -> None:
        """Deliver events until ``stop`` is set, then return within a second. Blocks; may run threads of its own.

        ``emit`` may be called from several threads. A source repairs itself: it returns only when stopped.
        """
