"""An API server that vanishes, returns, stalls and talks nonsense: nothing may be lost, and nothing told twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial

import msgspec
import pytest

from kpx.cluster import cursor
from kpx.cluster.events import Applied, Event, Rejected, Removed
from kpx.cluster.kubernetes import Connection, KubernetesSource
from kpx.cluster.objects import Kind, Service
from tests.apiserver import ApiServer, Cut, Failure, Request
from tests.unit.cluster.conftest import NODE, following
from tests.unit.cluster.objects import (
    Mirror,
    endpoint_slice,
    key,
    labelled,
    node,
    service,
    service_cidr,
    wait_until,
)

EXPIRED = Failure(410, "Expired", "too old resource version")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(cursor, "LONGEST_PAUSE", 0.1)


def source(server: ApiServer, *, silence: float = 30.0) -> KubernetesSource:
    return KubernetesSource(Connection.from_config(master=server.url, qps=-1), NODE, silence=silence)


@pytest.fixture
def mirror(server: ApiServer) -> Iterator[Mirror]:
    """What a proxy knows of a server with the Services a and b, when all that is synced and watched."""
    server.put(service("a"))
    server.put(service("b"))
    with following(source(server)) as mirror:
        mirror.wait_synced()
        wait_until(lambda: len(server.store.watchers()) == len(Kind))
        yield mirror


def requests(server: ApiServer, plural: str = "services", *, watch: bool) -> list[Request]:
    return [request for request in server.requests if request.plural == plural and request.is_watch is watch]


def node_port(mirror: Mirror, name: str) -> int:
    found = mirror.objects.get(key(name))
    return found.spec.ports[0].node_port if isinstance(found, Service) and found.spec.ports else 0


def has_node_port(mirror: Mirror, name: str, port: int) -> bool:
    return node_port(mirror, name) == port


def moved(name: str, port: int) -> dict[str, object]:
    """The Service at a new version that can be told from the others."""
    return service(name, ports=[{"port": 80, "nodePort": port}])


def test_objects_of_all_kinds_come_with_kube_proxys_selectors(server: ApiServer) -> None:
    proxied = {"service.kubernetes.io/service-proxy-name": ""}
    server.put(service("seen"))
    server.put(service("headless", "None"))
    server.put(labelled(service("foreign"), proxied))
    server.put(endpoint_slice("seen", "10.244.0.1"))
    server.put(labelled(endpoint_slice("headless", "10.244.0.1"), {"service.kubernetes.io/headless": ""}))
    server.put(node(NODE))
    server.put(node("other"))
    server.put(service_cidr("kubernetes", "10.96.0.0/16"))
    with following(source(server)) as mirror:
        mirror.wait_synced()
        assert {(key.kind.value, key.namespace, key.name) for key in mirror.objects} == {
            ("Service", "default", "seen"),
            ("EndpointSlice", "default", "seen-1"),
            ("Node", "", NODE),
            ("ServiceCIDR", "", "kubernetes"),
        }
        server.put(labelled(service("seen"), proxied))
        mirror.wait(lambda: not mirror.names())


def test_changes_are_told_as_they_come(server: ApiServer, mirror: Mirror) -> None:
    server.put(moved("a", 30001))
    mirror.wait(lambda: node_port(mirror, "a") == 30001)
    server.put(service("c"))
    server.delete("services", "b")
    mirror.wait(lambda: mirror.names() == {"a", "c"})


def test_the_list_is_from_the_cache_and_the_watch_asks_for_bookmarks(server: ApiServer, mirror: Mirror) -> None:
    assert [request.query["resourceVersion"] for request in requests(server, watch=False)] == ["0"]
    (watch,) = requests(server, watch=True)
    assert watch.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(watch.query["timeoutSeconds"]) <= 600
    assert watch.headers["Accept"] == "application/json"
    assert watch.headers["User-Agent"].startswith("kpx/")
    assert len(mirror.events) == 2 + len(Kind)


def test_a_list_comes_in_pages_if_the_server_has_no_cache(server: ApiServer) -> None:
    server.store.has_cache = False
    names = {f"s{number}" for number in range(1100)}
    for name in names:
        server.put(service(name))
    with following(source(server)) as mirror:
        mirror.wait_synced()
        assert mirror.names() == names
    assert [request.query["limit"] for request in requests(server, watch=False)] == ["500"] * 3


@pytest.mark.parametrize("seconds_away", [0.0, 0.3])
def test_the_server_vanishes_and_returns(server: ApiServer, mirror: Mirror, seconds_away: float) -> None:
    server.stop()
    server.put(moved("a", 30001))
    server.delete("services", "b")
    server.put(service("c"))
    time.sleep(seconds_away)
    before = list(mirror.events)
    server.start()
    mirror.wait(lambda: mirror.names() == {"a", "c"} and node_port(mirror, "a") == 30001)
    assert len(mirror.events) == len(before) + 3
    assert len(requests(server, watch=False)) == 1, "the watch was to be resumed"


def test_the_server_returns_without_its_history(server: ApiServer, mirror: Mirror) -> None:
    before = len(mirror.events)
    server.stop()
    server.delete("services", "b")
    server.put(service("c"))
    server.store.compact()
    server.start()
    mirror.wait(lambda: mirror.names() == {"a", "c"})
    news = mirror.events[before:]
    assert [type(event) for event in news] == [Removed, Applied], "only the difference is told"
    assert mirror.synced.count(Kind.SERVICE) == 1
    assert requests(server, watch=False)[-1].query["resourceVersion"] != "0"


def test_a_version_that_is_not_there_yet_makes_the_list_ask_the_store(server: ApiServer, mirror: Mirror) -> None:
    """As after etcd was restored from a backup."""
    server.stop()
    server.delete("services", "b")
    server.store.version = 1
    server.fail(EXPIRED, plural="services", watch=True)
    server.start()
    mirror.wait(lambda: mirror.names() == {"a"})
    assert "resourceVersion" not in requests(server, watch=False)[-1].query


@pytest.mark.parametrize("in_stream", [True, False])
def test_an_expired_version_is_mended_by_a_list(server: ApiServer, mirror: Mirror, in_stream: bool) -> None:
    before = len(mirror.events)
    if in_stream:
        server.inject("services", b'{"type":"ERROR","object":%b}\n' % EXPIRED.body)
    else:
        server.fail(EXPIRED, plural="services", watch=True)
        server.cut("services")
    wait_until(lambda: len(requests(server, watch=False)) == 2)
    server.put(service("c"))
    mirror.wait(lambda: "c" in mirror.names())
    assert len(mirror.events) == before + 1


@pytest.mark.parametrize("how", list(Cut), ids=lambda how: how.name)
def test_a_watch_that_ends_anyhow_is_resumed(server: ApiServer, mirror: Mirror, how: Cut) -> None:
    before = len(mirror.events)
    for port in range(30001, 30006):
        server.cut("services", how)
        server.put(moved("a", port))
        mirror.wait(partial(has_node_port, mirror, "a", port))
        wait_until(lambda: server.store.watchers("services"))
    assert len(mirror.events) == before + 5
    assert len(requests(server, watch=False)) == 1


def test_a_resumed_watch_goes_on_from_the_last_bookmark(server: ApiServer, mirror: Mirror) -> None:
    server.put(endpoint_slice("a", "10.244.0.1"))
    server.bookmark()
    server.cut("services", Cut.CLOSE)
    wait_until(lambda: len(requests(server, watch=True)) == 2)
    assert requests(server, watch=True)[-1].query["resourceVersion"] == str(server.store.version)
    assert mirror.names() == {"a", "b"}


def test_bytes_may_come_one_by_one(server: ApiServer) -> None:
    server.put(service("a"))
    server.faults.slow = (1, 0.0)
    with following(source(server)) as mirror:
        mirror.wait_synced()
        wait_until(lambda: server.store.watchers("services"))
        server.put(moved("a", 30001))
        mirror.wait(lambda: node_port(mirror, "a") == 30001)
    assert len(server.requests) == 2 * len(Kind), "nothing was to be asked for twice"


def test_a_connection_that_is_half_dead_is_given_up(server: ApiServer) -> None:
    server.put(service("a"))
    server.bookmark_seconds = 0.05
    with following(source(server, silence=0.3)) as mirror:
        mirror.wait_synced()
        server.faults.silent = True
        server.put(moved("a", 30001))
        known = len(server.requests)
        wait_until(lambda: len(server.requests) >= known + 2 * len(Kind))
        assert node_port(mirror, "a") == 0
        server.faults.silent = False
        mirror.wait(lambda: node_port(mirror, "a") == 30001)


def test_bookmarks_keep_a_quiet_watch_alive(server: ApiServer) -> None:
    server.bookmark_seconds = 0.05
    kubernetes = source(server, silence=0.6)
    with following(kubernetes) as mirror:
        mirror.wait_synced()
        wait_until(lambda: len(server.store.watchers()) == len(Kind))
        opened, known = time.monotonic(), len(server.requests)
        wait_until(lambda: time.monotonic() > opened + 0.9)
        assert len(server.requests) == known
        assert set(kubernetes.ages()) == set(Kind)
        assert max(kubernetes.ages().values()) < 0.6


def test_one_bad_object_leaves_the_others_alone(server: ApiServer) -> None:
    server.put(service("a"))
    server.put(service("bad", ports=[{"port": "eighty"}]))
    with following(source(server)) as mirror:
        mirror.wait_synced()
        assert mirror.names() == {"a"}
        assert "$.spec.ports[0].port" in mirror.rejected[key("bad")]
        wait_until(lambda: server.store.watchers("services"))
        server.put(service("worse", ports="none"))
        server.put(service("b"))
        mirror.wait(lambda: mirror.names() == {"a", "b"})
        assert key("worse") in mirror.rejected
        server.put(service("bad"))
        server.delete("services", "worse")
        mirror.wait(lambda: mirror.names() == {"a", "b", "bad"} and not mirror.rejected)
    assert sum(isinstance(event, Rejected) for event in mirror.events) == 2


@pytest.mark.parametrize(
    "line",
    [b"<html>\n", b'{"type":"ADDED"}\n', b'{"type":"ADDED","object":{"metadata"\n', b"\xff\xfe\n", b'["ADDED"]\n'],
)
def test_garbage_in_a_watch_is_mended_by_a_list(server: ApiServer, mirror: Mirror, line: bytes) -> None:
    server.inject("services", line)
    wait_until(lambda: len(requests(server, watch=False)) == 2)
    server.put(service("c"))
    mirror.wait(lambda: mirror.names() == {"a", "b", "c"})


def test_an_event_of_an_unknown_type_is_passed_over(server: ApiServer, mirror: Mirror) -> None:
    before = len(mirror.events)
    server.inject("services", b'{"type":"BLESSED","object":{"metadata":{"name":"a","namespace":"default"}}}\n')
    server.put(service("c"))
    mirror.wait(lambda: mirror.names() == {"a", "b", "c"})
    assert len(mirror.events) == before + 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_errors_are_waited_out(server: ApiServer, code: int) -> None:
    server.put(service("a"))
    server.fail(Failure(code, "Ordered", "not now", {"Retry-After": "0"}), times=12)
    with following(source(server)) as mirror:
        mirror.wait_synced()
        assert mirror.names() == {"a"}


def test_the_pause_that_a_server_asks_for_is_kept(server: ApiServer) -> None:
    server.fail(Failure(429, "TooManyRequests", "slow down", {"Retry-After": "1"}), plural="services")
    with following(source(server)) as mirror:
        mirror.wait_synced()
    first, second = requests(server, watch=False)
    assert second.at - first.at >= 1.0


@pytest.mark.parametrize("fault", ["absent", "forbidden"])
def test_service_cidrs_may_be_missing(server: ApiServer, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    getattr(server.faults, fault).add("servicecidrs")
    with following(source(server)) as mirror:
        mirror.wait_synced()
    assert "servicecidrs" in caplog.text
    assert ("system:node-proxier" in caplog.text) is (fault == "forbidden")


def test_what_is_forbidden_is_logged_with_the_remedy_and_waited_for(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.faults.forbidden.add("services")
    with following(source(server)) as mirror:
        mirror.wait(lambda: Kind.ENDPOINT_SLICE in mirror.synced)
        wait_until(lambda: len(requests(server, watch=False)) > 20)
        assert Kind.SERVICE not in mirror.synced
        warnings = [record.getMessage() for record in caplog.records if "cannot follow services" in record.getMessage()]
        assert "bind the ClusterRole system:node-proxier" in warnings[0]
        assert len(warnings) <= 6, "a row of failures is not a row of lines"
        server.faults.forbidden.clear()
        mirror.wait_synced()
        assert "services are followed again" in caplog.text


def test_an_answer_that_is_no_list_is_no_reason_to_stop(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    page = Failure(200, "", "")
    page.body = b"<html>log in</html>"
    server.fail(page, plural="services")
    with following(source(server)) as mirror:
        mirror.wait_synced()
    assert "is not a list of the Kubernetes API" in caplog.text


def test_a_server_that_is_down_at_the_start_is_waited_for(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    server.put(service("a"))
    server.stop()
    with following(source(server)) as mirror:
        wait_until(lambda: "cannot be connected to" in caplog.text)
        assert not mirror.events
        server.start()
        mirror.wait_synced()
        assert mirror.names() == {"a"}


@pytest.mark.parametrize("moment", ["watching", "silent", "down"])
def test_it_stops_at_once(server: ApiServer, moment: str) -> None:
    stop = threading.Event()
    mirror = Mirror()
    thread = threading.Thread(target=source(server).run, args=(mirror.take, stop))
    if moment == "down":
        server.stop()
    server.faults.silent = moment == "silent"
    thread.start()
    if moment == "watching":
        wait_until(lambda: len(server.store.watchers()) == len(Kind))
    elif moment == "silent":
        wait_until(lambda: len(server.requests) == len(Kind))
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    told = len(mirror.events)
    server.faults.silent = False
    server.put(service("late"))
    wait_until(lambda: not any(thread.name.startswith("watch-") for thread in threading.enumerate()))
    assert len(mirror.events) == told


def test_the_objects_of_a_gzipped_list_are_read(server: ApiServer) -> None:
    for number in range(1000):
        server.put(service(f"s{number}", ports=[{"port": 80}]))
    assert len(msgspec.json.encode(service("s0"))) * 1000 > 128 * 1024
    with following(source(server)) as mirror:
        mirror.wait_synced()
        assert len(mirror.names()) == 1000
    assert requests(server, watch=False)[0].headers["Accept-Encoding"] == "gzip"


def test_nothing_is_told_after_the_stop(server: ApiServer) -> None:
    server.put(service("a"))
    server.put(service("b"))
    stop = threading.Event()
    told = []

    def take(event: Event) -> None:
        told.append(event)
        stop.set()

    KubernetesSource(Connection.from_config(master=server.url, qps=-1), NODE).run(take, stop)
    assert sum(isinstance(event, Applied) for event in told) <= 1


def test_the_pauses_grow_also_after_a_watch_that_lasted(
    server: ApiServer, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cursor, "SOUND_WATCH", 0.01)
    server.put(service("c"))
    mirror.wait(lambda: "c" in mirror.names())
    server.stop()
    wait_until(lambda: "cannot follow services (attempt 8)" in caplog.text)
