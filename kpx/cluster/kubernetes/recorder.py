"""Events written to the API server, in the background and without hurry."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from kpx.cluster.events import ClusterError
from kpx.cluster.kubernetes.connection import Connection
from kpx.cluster.recorder import EventType, ObjectReference
from kpx.logs import v

logger = logging.getLogger(__name__)

REPORTING_CONTROLLER = "kube-proxy"
_LONGEST_NOTE = 1024  # bytes; the API refuses a longer one
_QUEUE_LENGTH = 100
_REPEAT_SECONDS = 360.0  # an identical Event within kube-proxy's window for a series of Events is not written again
_POLL_SECONDS = 0.5
_FLUSH_SECONDS = 0.01


class _Occurrence(NamedTuple):
    regarding: ObjectReference
    type: EventType
    reason: str
    action: str
    note: str


class EventRecorder:
    """The `Recorder` that writes ``events.k8s.io/v1`` Events as kube-proxy on host `host_name` does.

    `event` only queues; `run`, in a thread of its own, writes. Events are dropped when the queue is full, and when the
    API server does not take them.
    """

    def __init__(self, connection: Connection, host_name: str, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._instance = f"{REPORTING_CONTROLLER}-{host_name}"
        self._clock = clock
        self._queue: queue.Queue[_Occurrence] = queue.Queue(_QUEUE_LENGTH)
        self._written: dict[_Occurrence, float] = {}

    def event(self, regarding: ObjectReference, type_: EventType, reason: str, action: str, note: str) -> None:
        """Queue an Event; see `Recorder`."""
        occurrence = _Occurrence(regarding, type_, reason, action, note)
        try:
            self._queue.put_nowait(occurrence)
        except queue.Full:
            v(2, logger, "event regarding %s dropped, as many are waiting: %s: %s", regarding, reason, note)

    def run(self, stop: threading.Event) -> None:
        """Write queued Events until `stop` is set."""
        while not stop.is_set():
            try:
                occurrence = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            self._write(occurrence)
            self._queue.task_done()

    def flush(self, seconds: float) -> None:
        """Wait until what was queued is written, for at most this long."""
        deadline = time.monotonic() + seconds
        while self._queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(_FLUSH_SECONDS)

    def _write(self, occurrence: _Occurrence) -> None:
        now = self._clock()
        self._written = {key: at for key, at in self._written.items() if now - at < _REPEAT_SECONDS}
        if occurrence in self._written:
            return
        namespace = occurrence.regarding.namespace or "default"
        body = msgspec.json.encode(event_object(occurrence, self._instance, now))
        try:
            self._connection.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
        except ClusterError as error:
            v(2, logger, "event regarding %s not written: %s", occurrence.regarding, error)
        else:
            self._written[occurrence] = now


def event_object(occurrence: _Occurrence, instance: str, now: float) -> dict[str, object]:
    """The API object of an Event that happened at `now`, in seconds since 1970."""
    regarding, type_, reason, action, note = occurrence
    moment = datetime.fromtimestamp(now, UTC)
    reference = {
        "apiVersion": regarding.api_version,
        "kind": regarding.kind,
        "name": regarding.name,
        "namespace": regarding.namespace,
        "uid": regarding.uid,
    }
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{regarding.name}.{int(now * 1e9):x}",
            "namespace": regarding.namespace or "default",
        },
        "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance,
        "type": type_.value,
        "reason": reason,
        "action": action,
        "note": note.encode()[:_LONGEST_NOTE].decode(errors="ignore"),
        "regarding": {name: value for name, value in reference.items() if value},
    }
