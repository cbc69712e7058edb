"""Objects from an API server: a thread lists and watches each kind, for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from kpx.cluster import wire
from kpx.cluster.cursor import Cursor, List, Watch
from kpx.cluster.events import Applied, ClusterError, Event
from kpx.cluster.kubernetes.connection import Connection, Stream
from kpx.cluster.kubernetes.errors import Refused
from kpx.cluster.objects import Kind, Object
from kpx.logs import v

logger = logging.getLogger(__name__)

# An API server sends a bookmark about once a minute: a watch without one for much longer is no longer connected.
WATCH_SILENCE_SECONDS = 90.0
_ABSENT_PAUSE_SECONDS = 300.0
_STOP_SECONDS = 0.8


@dataclass(frozen=True)
class Resource:
    """What is watched of one kind. An `optional` kind counts as empty where the API lacks it or forbids it."""

    kind: Kind
    path: str
    selectors: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False

    @property
    def plural(self) -> str:
        """The API's name for the kind."""
        return self.path.rpartition("/")[2]


def resources(node_name: str) -> list[Resource]:
    """What kube-proxy 1.36 watches, with its selectors."""
    return [
        Resource(
            Kind.SERVICE,
            "/api/v1/services",
            {"labelSelector": "!service.kubernetes.io/service-proxy-name", "fieldSelector": "spec.clusterIP!=None"},
        ),
        Resource(
            Kind.ENDPOINT_SLICE,
            "/apis/discovery.k8s.io/v1/endpointslices",
            {"labelSelector": "!service.kubernetes.io/headless"},
        ),
        Resource(Kind.NODE, "/api/v1/nodes", {"fieldSelector": f"metadata.name={node_name}"}),
        Resource(Kind.SERVICE_CIDR, "/apis/networking.k8s.io/v1/servicecidrs", optional=True),
    ]


def read_all(connection: Connection, resource: Resource, seconds: float) -> Iterator[Object]:
    """All objects of a kind as they are now, as `resource` selects them; those that cannot be read are left out.

    Raises `ClusterError`, also if that takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    request = List()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ClusterError(f"{connection.url} did not answer within {seconds:g} s: try a longer --timeout")
        answer = connection.get(resource.path, {**resource.selectors, **request.query()}, left)
        page = wire.page(resource.kind, answer)
        for item in page.items:
            if isinstance(found := wire.read(item), Applied):
                yield found.object
        if not page.token:
            return
        request = List(version="", token=page.token)


class KubernetesSource:
    """The `Source` that follows an API server. `silence` is how long, in seconds, a watch may bring nothing."""

    def __init__(self, connection: Connection, node_name: str, *, silence: float = WATCH_SILENCE_SECONDS) -> None:
        self._connection = connection
        self._resources = resources(node_name)
        self._silence = silence
        self._reflectors: list[Reflector] = []

    def run(self, emit: Callable[[Event], None], stop: threading.Event) -> None:
        """Deliver events until `stop` is set; then return within a second.

        A thread that is in the middle of a connect by then is left to its time-out, and delivers nothing more.
        """
        self._reflectors = [
            Reflector(resource, self._connection, self._silence, emit, stop) for resource in self._resources
        ]
        for reflector in self._reflectors:
            reflector.thread.start()
        stop.wait()
        deadline = time.monotonic() + _STOP_SECONDS
        while any([reflector.interrupt() for reflector in self._reflectors]) and time.monotonic() < deadline:
            time.sleep(0.01)

    def ages(self) -> dict[Kind, float]:
        """For each kind, the seconds since the API server last said anything about it (a bookmark is something)."""
        now = time.monotonic()
        return {reflector.kind: now - reflector.heard for reflector in self._reflectors}


class Reflector:
    """Follows one kind: does what its cursor asks for, and tells the cursor what came of it."""

    def __init__(
        self,
        resource: Resource,
        connection: Connection,
        silence: float,
        emit: Callable[[Event], None],
        stop: threading.Event,
    ) -> None:
        self.kind = resource.kind
        self.heard = time.monotonic()
        self.thread = threading.Thread(target=self._run, name=f"watch-{resource.plural}", daemon=True)
        self._resource = resource
        self._connection = connection
        self._silence = silence
        self._emit = emit
        self._stop = stop
        self._cursor = Cursor(resource.kind)
        self._stream: Stream | None = None
        self._stream_opened = 0.0
        self._complained = False

    def interrupt(self) -> bool:
        """Wake the thread if it waits for a watch event; whether it is still alive."""
        if self._stream:
            self._stream.interrupt()
        return self.thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            request = self._cursor.request
            try:
                pause = self._list(request) if isinstance(request, List) else self._watch(request)
            except ClusterError as error:
                pause = 0.0 if self._stop.is_set() else self._failed(error)
            self._stop.wait(pause)

    def _list(self, request: List) -> float:
        answer = self._connection.get(self._resource.path, {**self._resource.selectors, **request.query()})
        self._deliver(self._cursor.page(wire.page(self.kind, answer)))
        return 0.0

    def _watch(self, request: Watch) -> float:
        query = {**self._resource.selectors, **request.query()}
        with self._connection.stream(self._resource.path, query, self._silence) as stream:
            self._stream, self._stream_opened = stream, time.monotonic()
            for line in stream.lines():
                change = wire.change(self.kind, line)
                if change.type == "ERROR":
                    raise self._connection.refused(wire.status(change.item.raw))
                self._deliver(self._cursor.change(change))
        return self._cursor.closed(self._lasted())

    def _lasted(self) -> float:
        """How long the watch has lasted, in seconds; 0 where none was opened. A watch is asked about once."""
        opened, self._stream, self._stream_opened = self._stream_opened, None, 0.0
        return time.monotonic() - opened if opened else 0.0

    def _deliver(self, events: list[Event]) -> None:
        self.heard = time.monotonic()
        if self._complained:
            self._complained = False
            logger.info("%s are followed again", self._resource.plural)
        self._emit_all(events)

    def _emit_all(self, events: list[Event]) -> None:
        for event in events:
            if not self._stop.is_set():
                self._emit(event)

    def _failed(self, error: ClusterError) -> float:
        watching = isinstance(self._cursor.request, Watch)
        stale = watching and isinstance(error, wire.Malformed)
        retry_after = 0.0
        if isinstance(error, Refused):
            if self._resource.optional and error.status.code in (403, 404):
                return self._absent(error)
            stale, retry_after = error.status.stale, error.retry_after
        pause = self._cursor.failed(lasted=self._lasted(), stale=stale)
        self._complain(error, routine=watching and self._cursor.failures <= 1)
        return max(pause, retry_after)

    def _absent(self, error: Refused) -> float:
        events = self._cursor.absent()
        if events and error.status.code == 404:
            logger.info("this API server has no %s: going on without", self._resource.plural)
        elif events:
            logger.warning("going on without %s: %s", self._resource.plural, error)
        self._emit_all(events)
        return _ABSENT_PAUSE_SECONDS

    def _complain(self, error: ClusterError, *, routine: bool) -> None:
        """Log a failure, and of a row of them the 2nd, 4th, 8th and so on; a watch that breaks once is nothing."""
        failures = self._cursor.failures
        if routine:
            v(2, logger, "the watch of %s is resumed: %s", self._resource.plural, error)
        elif failures & (failures - 1) == 0:
            self._complained = True
            logger.warning("cannot follow %s (attempt %d): %s", self._resource.plural, failures, error)
