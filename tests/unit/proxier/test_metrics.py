"""The metrics, beside what kube-proxy 1.36 shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.net import Family
from kpx.proxier.kernel_metrics import Growth
from kpx.proxier.metrics import Metrics

FIXTURES = Path(__file__).parents[2] / "fixtures" / "kube-proxy-1.36"


def shape(text: str, prefix: str = "kubeproxy_") -> list[str]:
    """The lines of an exposition without the values, sorted: nobody relies on the order."""
    lines = [line if line.startswith("#") else line.rpartition(" ")[0] for line in text.splitlines()]
    return sorted(line for line in lines if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(prefix))


def value(metrics: Metrics, series: str) -> float:
    found = [line for line in metrics.render().decode().splitlines() if line.startswith(series + " ")]
    assert len(found) == 1, f"{series}: {found}"
    return float(found[0].rpartition(" ")[2])


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0.1.0")


def one_sync(metrics: Metrics) -> None:
    """What the proxier reports of its first syncs, in both families."""
    for family in ("IPv4", "IPv6"):
        metrics.last_queued.labels(family).set(1.7953775310518293e09)
        metrics.last_sync.labels(family).set(1.7953775312090826e09)
        metrics.sync_duration.labels(family).observe(0.077)
        metrics.full_sync_duration.labels(family).observe(0.077)
        for policy in ("internal", "external"):
            metrics.no_local_endpoints.labels(family, policy).set(1)
    metrics.conntrack_reconciled(Family.IPV4, 0.02, 0)


def test_nftables_mode_shows_what_kube_proxy_shows(metrics: Metrics) -> None:
    one_sync(metrics)
    theirs = (FIXTURES / "metrics-nftables.txt").read_text()
    assert shape(metrics.render().decode()) == shape(theirs)


def test_iptables_mode_shows_what_kube_proxy_shows(metrics: Metrics) -> None:
    one_sync(metrics)
    for family in ("IPv4", "IPv6"):
        for table in ("nat", "filter"):
            metrics.iptables_owned.labels(family, table).set(10)
            metrics.iptables_written.labels(family, table).set(10)
    theirs = shape((FIXTURES / "metrics-iptables.txt").read_text())
    counted_by_rules = ("kubeproxy_iptables_ct_state", "kubeproxy_iptables_localhost")
    assert shape(metrics.render().decode()) == [
        line for line in theirs if not any(name in line for name in counted_by_rules)
    ]


def test_a_series_with_labels_shows_after_its_first_use_only(metrics: Metrics) -> None:
    unused = {line.split()[2] for line in shape(metrics.render().decode()) if line.startswith("# TYPE")}
    assert unused == {
        f"kubeproxy_sync_proxy_rules_{kind}_changes_{what}"
        for kind in ("endpoint", "service")
        for what in ("pending", "total")
    }


USES: list[tuple[Callable[[Metrics], None], str]] = [
    (
        lambda m: m.partial_sync_duration.labels("IPv4").observe(1),
        'kubeproxy_sync_partial_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="1.024"}',
    ),
    (
        lambda m: m.iptables_restore_failures.labels("IPv4").inc(),
        'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"}',
    ),
    (
        lambda m: m.iptables_partial_restore_failures.labels("IPv4").inc(),
        'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"}',
    ),
    (
        lambda m: m.nftables_sync_failures.labels("IPv6").inc(),
        'kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv6"}',
    ),
    (
        lambda m: m.nftables_cleanup_failures.labels("IPv6").inc(),
        'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv6"}',
    ),
    (lambda m: m.health_answered("/healthz", 503), 'kubeproxy_proxy_healthz_total{code="503"}'),
    (lambda m: m.health_answered("/livez", 200), 'kubeproxy_proxy_livez_total{code="200"}'),
    (
        lambda m: m.api_requests.labels("200", "10.96.0.1:443", "GET").inc(),
        'rest_client_requests_total{code="200",host="10.96.0.1:443",method="GET"}',
    ),
    (lambda m: m.drift_found.labels("IPv4").inc(), 'kpx_drift_found_total{ip_family="IPv4"}'),
    (lambda m: m.drift_repaired.labels("IPv4").inc(), 'kpx_drift_repaired_total{ip_family="IPv4"}'),
    (lambda m: m.address_conflicts.labels("IPv4").inc(), 'kpx_address_conflicts_total{ip_family="IPv4"}'),
]


@pytest.mark.parametrize(("use", "series"), USES, ids=[series.partition("{")[0] for _, series in USES])
def test_each_use_shows_in_its_series(metrics: Metrics, use: Callable[[Metrics], None], series: str) -> None:
    assert series not in metrics.render().decode()
    use(metrics)
    assert value(metrics, series) == 1


def test_network_programming_has_kube_proxys_buckets(metrics: Metrics) -> None:
    metrics.network_programming_duration.labels("IPv4").observe(0)
    bounds = [
        line.partition('le="')[2].partition('"')[0]
        for line in metrics.render().decode().splitlines()
        if line.startswith("kubeproxy_network_programming_duration_seconds_bucket")
    ]
    whole = [*range(1, 61), *range(65, 121, 5), *range(150, 301, 30)]
    assert bounds == ["0", "0.25", "0.5", *map(str, whole), "+Inf"]
    assert value(metrics, 'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0"}') == 1


def test_the_process_and_its_version_are_there_and_the_clients_own_series_are_not(metrics: Metrics) -> None:
    text = metrics.render().decode()
    assert value(metrics, "process_open_fds") > 0
    assert 'kubernetes_build_info{compiler="CPython",git_version="v0.1.0",major="0",minor="1"' in text
    assert "_created" not in text


def test_a_rejected_object_is_named_until_it_is_mended(metrics: Metrics) -> None:
    series = 'kpx_rejected_objects{kind="Service",name="we\\"b",namespace="shop"}'
    metrics.object_accepted("Service", "shop", 'we"b')
    metrics.object_rejected("Service", "shop", 'we"b')
    metrics.object_rejected("Service", "shop", 'we"b')
    assert value(metrics, series) == 1
    metrics.object_accepted("Service", "shop", 'we"b')
    assert "kpx_rejected_objects" not in metrics.render().decode()


def test_the_age_of_a_watch_is_asked_for_at_each_scrape(metrics: Metrics) -> None:
    ages: Iterator[dict[str, float]] = iter([{"Service": 1.5}, {"Service": 3.0, "Node": 9.0}])
    metrics.follow_watches(lambda: next(ages), ["Service"])
    assert value(metrics, 'kpx_watch_age_seconds{kind="Service"}') == 1.5
    assert value(metrics, 'kpx_watch_age_seconds{kind="Service"}') == 3


def growth(*samples: tuple[float, int]) -> Growth:
    one = Growth(window=300)
    for now, entries in samples:
        one.sample(now, entries)
    return one


@pytest.mark.parametrize(
    ("samples", "limit", "seconds"),
    [
        ([(0, 100)], 1000, math.inf),
        ([(0, 100), (10, 200)], 1000, 80),
        ([(0, 100), (10, 200), (20, 100)], 1000, math.inf),
        ([(0, 200), (10, 100)], 1000, math.inf),
        ([(0, 100), (10, 1000)], 1000, 0),
        ([(0, 2000)], 1000, 0),
        ([(0, 100), (10, 200)], 0, math.inf),
        ([(0, 0), (300, 600), (600, 600)], 1000, math.inf),
        ([(0, 0), (900, 500)], 1000, 900),
    ],
)
def test_the_time_until_a_table_is_full(samples: list[tuple[float, int]], limit: int, seconds: float) -> None:
    assert growth(*samples).seconds_to(limit) == seconds


@given(rate=st.integers(1, 1000), steps=st.integers(1, 50))
def test_a_steady_growth_is_foreseen_exactly(rate: int, steps: int) -> None:
    one = growth(*((second * 15, rate * second) for second in range(steps + 1)))
    limit = rate * steps + rate * 7
    assert one.seconds_to(limit) == pytest.approx(7 * 15)
