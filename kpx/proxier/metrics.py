"""The metrics of the proxier: kube-proxy 1.36's by their exact names, and kpx's own beside them.

Labels called ``ip_family`` have the values of `Family`. A metric with labels shows a series only after its first use.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from kpx.net import Family

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SYNC_SECONDS = [0.001 * 2**power for power in range(15)]
_PROGRAMMING_SECONDS = [0, 0.25, 0.5, *range(1, 61), *range(65, 121, 5), *range(150, 301, 30)]

_REQUEST_SECONDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60]

_FAMILY = ("ip_family",)
_TABLE = ("ip_family", "table")
_POLICY = ("ip_family", "traffic_policy")
_BUILD = ("git_version", "major", "minor", "compiler", "platform")
_OBJECT = ("kind", "namespace", "name")


class Metrics:
    """Every metric of one process, in a registry of its own."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._rejected: set[tuple[str, str, str]] = set()
        ProcessCollector(registry=self.registry)
        self._define_syncs()
        self._define_changes()
        self._define_iptables_and_nftables()
        self._define_surroundings()
        self._define_own()
        self._define_build(version)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format (`CONTENT_TYPE`), as Go's client writes them."""
        return render(self.registry)

    def conntrack_reconciled(self, family: Family, seconds: float, deleted: int) -> None:
        self.conntrack_duration.labels(family.value).observe(seconds)
        self.conntrack_deleted.labels(family.value).inc(deleted)

    def api_answered(self, method: str, code: str, host: str, seconds: float) -> None:
        """A request to the API server was answered, or failed."""
        self.api_requests.labels(code, host, method).inc()
        self.api_seconds.labels(host, method).observe(seconds)

    def health_answered(self, path: str, status: int) -> None:
        """A request to ``/healthz`` or ``/livez`` was answered."""
        counter = self.healthz if path == "/healthz" else self.livez
        counter.labels(str(int(status))).inc()

    def follow_watches(self, ages: Callable[[], Mapping[str, float]], kinds: Iterable[str]) -> None:
        """Show how old the API server's last word on each kind is, in seconds; `ages` is asked at each scrape."""

        def age(kind: str) -> float:
            return ages().get(kind, 0.0)

        for kind in kinds:
            self.watch_age.labels(kind).set_function(partial(age, kind))

    def object_rejected(self, kind: str, namespace: str, name: str) -> None:
        """An object could not be used and is left out."""
        self._rejected.add((kind, namespace, name))
        self.rejected_objects.labels(kind, namespace, name).set(1)

    def object_accepted(self, kind: str, namespace: str, name: str) -> None:
        """An object is used, or gone; it may have been rejected before."""
        if (kind, namespace, name) in self._rejected:
            self._rejected.discard((kind, namespace, name))
            self.rejected_objects.remove(kind, namespace, name)

    def _define_syncs(self) -> None:
        latency = "SyncProxyRules latency in seconds"
        self.sync_duration = self._sync_histogram("sync_proxy_rules_duration_seconds", latency)
        self.full_sync_duration = self._sync_histogram(
            "sync_full_proxy_rules_duration_seconds", f"{latency} for full resyncs"
        )
        self.partial_sync_duration = self._sync_histogram(
            "sync_partial_proxy_rules_duration_seconds", f"{latency} for partial resyncs"
        )
        self.network_programming_duration = self._histogram(
            "network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            _PROGRAMMING_SECONDS,
        )
        self.last_sync = self._gauge(
            "sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", _FAMILY
        )
        self.last_queued = self._gauge(
            "sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", _FAMILY
        )

    def _define_changes(self) -> None:
        self.endpoint_changes_pending = self._gauge(
            "sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes"
        )
        self.endpoint_changes = self._counter(
            "sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes"
        )
        self.service_changes_pending = self._gauge(
            "sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes"
        )
        self.service_changes = self._counter(
            "sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes"
        )
        self.no_local_endpoints = self._gauge(
            "sync_proxy_rules_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            _POLICY,
        )

    def _define_iptables_and_nftables(self) -> None:
        self.iptables_owned = self._gauge(
            "sync_proxy_rules_iptables_total", "Total number of iptables rules owned by kube-proxy", _TABLE
        )
        self.iptables_written = self._gauge(
            "sync_proxy_rules_iptables_last", "Number of iptables rules written by kube-proxy in last sync", _TABLE
        )
        self.iptables_restore_failures = self._counter(
            "sync_proxy_rules_iptables_restore_failures_total", "Cumulative proxy iptables restore failures", _FAMILY
        )
        self.iptables_partial_restore_failures = self._counter(
            "sync_proxy_rules_iptables_partial_restore_failures_total",
            "Cumulative proxy iptables partial restore failures",
            _FAMILY,
        )
        self.nftables_sync_failures = self._counter(
            "sync_proxy_rules_nftables_sync_failures_total", "Cumulative proxy nftables sync failures", _FAMILY
        )
        self.nftables_cleanup_failures = self._counter(
            "sync_proxy_rules_nftables_cleanup_failures_total", "Cumulative proxy nftables cleanup failures", _FAMILY
        )
        # Of each mode: the failed syncs, and those of them that were partial.
        self.failures: dict[str, tuple[Counter, Counter | None]] = {
            "iptables": (self.iptables_restore_failures, self.iptables_partial_restore_failures),
            "ipvs": (self.iptables_restore_failures, None),
            "nftables": (self.nftables_sync_failures, None),
        }

    def _define_surroundings(self) -> None:
        self.conntrack_duration = self._sync_histogram(
            "conntrack_reconciler_sync_duration_seconds", "ReconcileConntrackFlowsLatency latency in seconds"
        )
        self.conntrack_deleted = self._counter(
            "conntrack_reconciler_deleted_entries_total",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            _FAMILY,
        )
        self.healthz = self._counter("proxy_healthz_total", "Cumulative proxy healthz HTTP status", ("code",))
        self.livez = self._counter("proxy_livez_total", "Cumulative proxy livez HTTP status", ("code",))
        self.api_requests = Counter(
            "rest_client_requests_total",
            "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "host", "method"),
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
            ("host", "verb"),
            registry=self.registry,
            buckets=_REQUEST_SECONDS,
        )

    def _define_own(self) -> None:
        self.drift_found = Counter(
            "kpx_drift_found_total",
            "Times that somebody else was found to have changed our rules",
            _FAMILY,
            registry=self.registry,
        )
        self.drift_repaired = Counter(
            "kpx_drift_repaired_total",
            "Rules and chains found missing, changed or left over, and mended",
            _FAMILY,
            registry=self.registry,
        )
        self.rejected_objects = Gauge(
            "kpx_rejected_objects",
            "Objects that are left out because they are invalid",
            _OBJECT,
            registry=self.registry,
        )
        self.address_conflicts = Counter(
            "kpx_address_conflicts_total",
            "Addresses that a Service asked for and an older one has",
            _FAMILY,
            registry=self.registry,
        )
        self.watch_age = Gauge(
            "kpx_watch_age_seconds",
            "Time since the API server was last heard on a watch",
            ("kind",),
            registry=self.registry,
        )

    def _define_build(self, version: str) -> None:
        major, _, rest = version.partition(".")
        self.build = Gauge(
            "kubernetes_build_info",
            "[ALPHA] A metric with a constant '1' value that names the version of this kpx",
            _BUILD,
            registry=self.registry,
        )
        self.build.labels(
            f"v{version}",
            major,
            rest.partition(".")[0],
            platform.python_implementation(),
            f"linux/{platform.machine()}",
        ).set(1)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"kubeproxy_{name}", f"[ALPHA] {text}", labels, registry=self.registry)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"kubeproxy_{name}", f"[ALPHA] {text}", labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"kubeproxy_{name}", f"[ALPHA] {text}", _FAMILY, registry=self.registry, buckets=buckets)

    def _sync_histogram(self, name: str, text: str) -> Histogram:
        return self._histogram(name, text, _SYNC_SECONDS)


def render(registry: CollectorRegistry) -> bytes:
    """The metrics of a registry in Prometheus's text format, as Go's client writes them."""
    return generate_latest(_AsGo(registry))


class _AsGo(Collector):
    """A registry seen as Go's client shows it: by name, without empty families, whole buckets without ``.0``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in sorted(self._registry.collect(), key=lambda family: family.name):
            family.samples = [
                sample._replace(labels=_with_go_bucket(sample.labels))
                for sample in family.samples
                if not sample.name.endswith("_created")  # the Python client's own series
            ]
            if family.samples:
                yield family


def _with_go_bucket(labels: dict[str, str]) -> dict[str, str]:
    return {**labels, "le": labels["le"].removesuffix(".0")} if "le" in labels else labels
