"""The pages of the metrics server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from kpx import logs
from kpx.proxier.http_messages import Request, Response
from kpx.proxier.metrics_server import MetricsPages

CONFIGZ = json.dumps({"kubeproxy.config.k8s.io": {"mode": "iptables"}})
MINUTE = 60_000_000_000


class Site:
    """A metrics server with a clock."""

    def __init__(self, *, profiling: bool = False, flagz: bool = True, statusz: bool = True) -> None:
        self.now = 1_795_377_480_000_000_000
        registry = CollectorRegistry()
        Gauge("some_gauge", "Something", registry=registry).set(4)
        self._pages = MetricsPages(
            registry,
            mode="iptables",
            version="v0.1.0",
            configz=CONFIGZ,
            flags={"v": "2", "config": "/etc/kube-proxy.yaml"},
            healthy=lambda: True,
            profiling=profiling,
            flagz=flagz,
            statusz=statusz,
            wall=lambda: self.now,
        )

    def get(self, path: str, method: str = "GET", body: bytes = b"", **query: str) -> Response:
        return self._pages(Request(method, path, query, body=body))

    def text(self, path: str, **query: str) -> str:
        answer = self.get(path, **query)
        assert answer.status == 200
        return answer.body.decode()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def verbosity() -> Iterator[None]:
    """Put the level of the log back."""
    yield
    logs.set_verbosity(0)


def test_metrics(site: Site) -> None:
    answer = site.get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.body == b"# HELP some_gauge Something\n# TYPE some_gauge gauge\nsome_gauge 4.0\n"


@pytest.mark.parametrize("path", ["/healthz", "/healthz/ping"])
def test_that_the_server_answers_is_its_health(site: Site, path: str) -> None:
    assert site.text(path) == "ok"
    assert site.text(path, verbose="") == "[+]ping ok\nhealthz check passed\n"


def test_the_slis_count_the_health_checks(site: Site) -> None:
    assert site.text("/metrics/slis") == ""
    site.get("/healthz")
    site.get("/healthz")
    lines = site.text("/metrics/slis").splitlines()
    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1.0' in lines
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} 2.0' in lines


def test_mode_and_configuration(site: Site) -> None:
    assert site.text("/proxyMode") == "iptables"
    assert site.text("/configz") == CONFIGZ
    assert site.get("/configz").content_type == "application/json"


def test_flagz_lists_the_flags_in_order(site: Site) -> None:
    heading, warning, gap, *flags = site.text("/flagz").strip().splitlines()
    assert (heading, warning[:8], gap) == ("kube-proxy flagz", "Warning:", "")
    assert flags == ["config:/etc/kube-proxy.yaml", "v:2"]


def test_statusz_tells_how_long_it_is_up(site: Site) -> None:
    site.now += 61 * MINUTE
    lines = site.text("/statusz").splitlines()
    assert "Started: 2026-11-22T19:58:00Z" in lines
    assert "Up: 1 hr 01 min 00 sec" in lines
    assert "Binary version: v0.1.0" in lines
    assert "Paths: /configz /flagz /healthz /healthz/ping /metrics /metrics/slis /proxyMode /statusz" in lines


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics/", "/debug/flags/v", "/debug/pprof/"])
def test_what_is_not_there(site: Site, path: str) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_the_feature_gates_of_two_pages() -> None:
    site = Site(flagz=False, statusz=False)
    assert [site.get(path).status for path in ("/flagz", "/statusz")] == [404, 404]


@pytest.mark.parametrize("path", ["/debug/pprof/", "/debug/pprof/goroutine"])
def test_profiling_shows_where_every_thread_is(path: str) -> None:
    stacks = Site(profiling=True).text(path)
    assert "thread MainThread:" in stacks
    assert "test_profiling_shows_where_every_thread_is" in stacks


@pytest.mark.usefixtures("verbosity")
def test_profiling_lets_the_log_be_made_more_verbose(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    site = Site(profiling=True)
    logger = logging.getLogger("test")
    logs.v(4, logger, "before")
    answer = site.get("/debug/flags/v", "PUT", b"4\n")
    assert (answer.status, answer.body) == (200, b"successfully set klog.logging.verbosity to 4")
    logs.v(4, logger, "after")
    assert caplog.messages == ["after"]


@pytest.mark.parametrize(("method", "body", "status"), [("GET", b"", 406), ("PUT", b"much", 400), ("PUT", b"-1", 400)])
def test_other_wishes_for_the_log_are_refused(method: str, body: bytes, status: int) -> None:
    assert Site(profiling=True).get("/debug/flags/v", method, body).status == status
