"""What /healthz, /livez and the health-check node ports answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from kpx.cluster.objects import Metadata, Node, NodeSpec, Taint
from kpx.net import Family
from kpx.proxier.health import NodeEligibility, ProxyHealth, rfc3339, service_body
from kpx.proxier.health_servers import HealthChecks
from kpx.proxier.http_messages import Request, Response

V4, V6 = Family.IPV4, Family.IPV6
SECOND = 1_000_000_000
START = 1_795_377_480 * SECOND  # 2026-11-22T19:58:00Z
FIXTURES = Path(__file__).parents[2] / "fixtures" / "kube-proxy-1.36"


class Clock:
    """Both clocks of a process: seconds since some time, and nanoseconds since 1970."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> int:
        return START + int(self.seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> ProxyHealth:
    return ProxyHealth(30, clock.monotonic, clock.wall)


@pytest.fixture
def node() -> NodeEligibility:
    return NodeEligibility()


def ask(health: ProxyHealth, node: NodeEligibility, path: str) -> Response:
    return HealthChecks(health, node, lambda *_: None)(Request("GET", path))


def test_a_proxier_that_never_started_is_healthy(health: ProxyHealth) -> None:
    health.queued(V4)
    assert health.status().healthy
    assert health.status().families == {}


def test_a_family_is_unhealthy_once_its_oldest_request_has_waited_two_sync_periods(
    clock: Clock, health: ProxyHealth
) -> None:
    health.updated(V4)
    health.updated(V6)
    clock.seconds = 100
    health.queued(V4)
    clock.seconds = 159.9
    health.queued(V4)
    assert health.status().healthy
    clock.seconds = 160
    families = health.status().families
    assert not health.status().healthy
    assert (families[V4].healthy, families[V6].healthy) == (False, True)
    health.updated(V4)
    assert health.status().healthy
    clock.seconds = 10_000
    assert health.status().healthy


@pytest.mark.parametrize(
    ("seen", "eligible"),
    [
        (Node(), True),
        (Node(metadata=Metadata(deletion_timestamp="2026-11-22T19:58:00Z")), False),
        (Node(spec=NodeSpec(taints=[Taint("ToBeDeletedByClusterAutoscaler")])), False),
        (Node(spec=NodeSpec(taints=[Taint("node.kubernetes.io/unreachable")])), True),
    ],
)
def test_eligibility_is_judged_by_the_last_node_seen(node: NodeEligibility, seen: Node, eligible: bool) -> None:
    assert not node
    node.update(seen)
    assert bool(node) is eligible
    node.update(None)
    assert bool(node) is eligible


def test_healthz_has_the_form_of_kube_proxys(clock: Clock, health: ProxyHealth, node: NodeEligibility) -> None:
    clock.seconds = 51.25
    health.updated(V4)
    health.updated(V6)
    node.update(Node())
    clock.seconds = 55.5
    now, synced = "2026-11-22T19:58:55.5Z", "2026-11-22T19:58:51.25Z"
    answer = ask(health, node, "/healthz")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.body.decode() == (
        f'{{"lastUpdated":"{now}","currentTime":"{now}","nodeEligible":true,"healthy":true,"status":'
        f'{{"IPv4":{{"lastUpdated":"{synced}","healthy":true}},"IPv6":{{"lastUpdated":"{synced}","healthy":true}}}}}}'
    )
    theirs = json.loads((FIXTURES / "healthz.json").read_text())
    assert list(json.loads(answer.body)) == list(theirs)
    assert list(json.loads(answer.body)["status"]["IPv6"]) == list(theirs["status"]["IPv6"])


def test_an_ineligible_node_is_alive_but_not_healthy(clock: Clock, health: ProxyHealth, node: NodeEligibility) -> None:
    health.updated(V4)
    clock.seconds = 2
    healthz, livez = ask(health, node, "/healthz"), ask(health, node, "/livez")
    assert (healthz.status, livez.status) == (503, 200)
    body = json.loads(healthz.body)
    assert (body["nodeEligible"], body["healthy"]) == (False, True)
    assert (body["lastUpdated"], body["currentTime"]) == ("2026-11-22T19:58:00Z", "2026-11-22T19:58:02Z")
    assert list(json.loads(livez.body)) == ["lastUpdated", "currentTime", "healthy", "status"]


def test_before_the_first_sync_there_is_no_status(health: ProxyHealth, node: NodeEligibility) -> None:
    body = json.loads(ask(health, node, "/healthz").body)
    assert "status" not in body
    assert body["lastUpdated"] == "0001-01-01T00:00:00Z"


def test_a_proxier_that_lags_behind_is_neither(clock: Clock, health: ProxyHealth, node: NodeEligibility) -> None:
    node.update(Node())
    health.updated(V4)
    health.queued(V4)
    clock.seconds = 60
    assert ask(health, node, "/healthz").status == 503
    assert ask(health, node, "/livez").status == 503


def test_other_paths_are_not_found_and_not_counted(health: ProxyHealth, node: NodeEligibility) -> None:
    counted: Counter[tuple[str, int]] = Counter()
    checks = HealthChecks(health, node, lambda path, status: counted.update([(path, status)]))
    answers = [checks(Request("GET", path)) for path in ("/healthz", "/livez", "/livez", "/healthz/", "/", "/metrics")]
    assert [answer.status for answer in answers] == [503, 200, 200, 404, 404, 404]
    assert counted == {("/healthz", 503): 1, ("/livez", 200): 2}


def test_a_services_health_check_has_kube_proxys_body() -> None:
    theirs = (FIXTURES / "healthchecknodeport.txt").read_bytes().partition(b"\r\n\r\n")[2]
    assert service_body("shop", "edge", 1, healthy=True) == theirs


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (START, "2026-11-22T19:58:00Z"),
        (START + 381_063_750, "2026-11-22T19:58:00.38106375Z"),
        (START + 1, "2026-11-22T19:58:00.000000001Z"),
    ],
)
def test_times_are_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert rfc3339(nanoseconds) == text
