"""Events: what is written, and that it never gets in the way."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import msgspec
import pytest

from kpx.cluster import kubernetes
from kpx.cluster.kubernetes import Connection, EventRecorder
from kpx.cluster.recorder import EventType, LogRecorder, ObjectReference
from tests.apiserver import ApiServer, Failure
from tests.unit.cluster.objects import wait_until

NODE = ObjectReference("Node", "node-a")
SERVICE = ObjectReference("Service", "web", "shop", "1234")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes.recorder, "_POLL_SECONDS", 0.02)


def recorder(server: ApiServer, clock: list[float]) -> EventRecorder:
    return EventRecorder(Connection.from_config(master=server.url, qps=-1), "host-a", clock=lambda: clock[0])


@contextmanager
def writing(recorder: EventRecorder) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=recorder.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def events(server: ApiServer, namespace: str) -> list[dict[str, object]]:
    stored = server.store.page("events", lambda stored: stored.namespace == namespace, {})[0]
    return [msgspec.json.decode(event.body) for event in stored]


def test_an_event_is_as_kube_proxy_writes_it(server: ApiServer) -> None:
    target = recorder(server, [1_790_000_000.25])
    target.event(NODE, EventType.NORMAL, "Starting", "StartKubeProxy", "kpx is up")
    with writing(target):
        wait_until(lambda: events(server, "default"))
    (event,) = events(server, "default")
    metadata = event.pop("metadata")
    assert isinstance(metadata, dict)
    assert re.fullmatch(r"node-a\.[0-9a-f]{16}", metadata["name"])
    assert event == {
        "eventTime": "2026-09-21T14:13:20.250000Z",
        "reportingController": "kube-proxy",
        "reportingInstance": "kube-proxy-host-a",
        "type": "Normal",
        "reason": "Starting",
        "action": "StartKubeProxy",
        "note": "kpx is up",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": "node-a"},
    }


def test_an_event_is_kept_in_the_namespace_of_its_object(server: ApiServer) -> None:
    target = recorder(server, [0.0])
    target.event(SERVICE, EventType.WARNING, "FailedToStartServiceHealthcheck", "Listen", "x" * 1023 + "éé")
    with writing(target):
        wait_until(lambda: events(server, "shop"))
    (event,) = events(server, "shop")
    assert event["regarding"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "name": "web",
        "namespace": "shop",
        "uid": "1234",
    }
    assert event["note"] == "x" * 1023


def test_an_event_that_repeats_is_written_again_after_a_while_only(server: ApiServer) -> None:
    clock = [0.0]
    target = recorder(server, clock)
    with writing(target):
        for clock[0], count in ((0.0, 1), (359.0, 1), (361.0, 2)):
            markers = len(events(server, "default"))
            target.event(SERVICE, EventType.WARNING, "Failed", "Listen", "the same")
            target.event(NODE, EventType.NORMAL, "Marker", "Mark", str(clock[0]))
            wait_until(partial(has_events, server, "default", markers + 1))
            assert len(events(server, "shop")) == count


def has_events(server: ApiServer, namespace: str, count: int) -> bool:
    return len(events(server, namespace)) == count


def test_events_are_dropped_when_too_many_wait(server: ApiServer) -> None:
    target = recorder(server, [0.0])
    for number in range(1000):
        target.event(NODE, EventType.NORMAL, "Many", "Count", str(number))
    with writing(target):
        wait_until(lambda: len(server.requests) == 100)
        target.event(SERVICE, EventType.NORMAL, "Last", "Count", "last")
        wait_until(lambda: events(server, "shop"))
    assert len(server.requests) == 101


def test_an_event_that_is_not_taken_is_no_failure_and_may_be_tried_again(server: ApiServer) -> None:
    server.fail(Failure(403, "Forbidden", "no"))
    target = recorder(server, [0.0])
    with writing(target):
        for _ in range(2):
            target.event(NODE, EventType.NORMAL, "Starting", "StartKubeProxy", "up")
        wait_until(lambda: events(server, "default"))


def test_without_an_api_server_events_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    LogRecorder().event(SERVICE, EventType.WARNING, "Failed", "Listen", "port 32000 is taken")
    LogRecorder().event(NODE, EventType.NORMAL, "Starting", "StartKubeProxy", "kpx is up")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "event regarding Service shop/web: Failed (Listen): port 32000 is taken"),
        ("INFO", "event regarding Node node-a: Starting (StartKubeProxy): kpx is up"),
    ]
