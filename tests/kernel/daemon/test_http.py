"""What the daemon answers over HTTP, beside what kube-proxy answered for the same objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kpx import lab
from kpx.config.flags import FLAGS
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import FIXTURE, Daemons, Node, counts_packets, fixture_objects, lab_of
from tests.kernel.daemon.process import HEALTHZ, Answer, Daemon, eventually

CHECK_PORT = 32100
NOT_FOUND = (404, "404 page not found\n")
# What kube-proxy's file lacks, because nobody had asked, and nothing had changed since the start.
LATER = {
    "kubeproxy_sync_partial_proxy_rules_duration_seconds": (
        "histogram",
        "[ALPHA] SyncProxyRules latency in seconds for partial resyncs",
        {"ip_family"},
    ),
    "kubeproxy_proxy_healthz": ("counter", "[ALPHA] Cumulative proxy healthz HTTP status", {"code"}),
    "kubeproxy_proxy_livez": ("counter", "[ALPHA] Cumulative proxy livez HTTP status", {"code"}),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    node = Node(tmp_path_factory.mktemp("http"))
    node.serve(*fixture_objects())
    return node


@pytest.fixture(scope="module")
def daemon(node: Node) -> Iterator[Daemon]:
    """A daemon that serves the fixture's objects."""
    with lab_of() as place:
        daemons = Daemons(node.folder)
        try:
            namespace = place.namespace(NODE)
            command = lab.command(place.name, NODE, [*node.command, "-v=2"])
            yield daemons.start(*command, namespace=namespace).synced()
        finally:
            daemons.end()


@contextmanager
def changed(node: Node, *objects: dict[str, Any]) -> Iterator[None]:
    """These objects in place of those of the same name."""
    try:
        node.write("zz-changed.yaml", *objects)
        yield
    finally:
        (node.manifests / "zz-changed.yaml").unlink()


def find(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in fixture_objects() if (one["kind"], one["metadata"]["name"]) == (kind, name))


def timeless(body: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", "TIME", body)


# The health server


def test_healthz_is_kube_proxys(daemon: Daemon) -> None:
    answer = eventually(lambda: daemon.get("/healthz", HEALTHZ), lambda found: found.status == 200)

    assert timeless(answer.body) == timeless((FIXTURE / "healthz.json").read_text())
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("application/json", "nosniff")
    assert daemon.get("/healthz", HEALTHZ, method="POST").status == 200


def test_a_node_that_is_about_to_go_gets_no_new_traffic_but_lives(daemon: Daemon, node: Node) -> None:
    tainted = find("Node", "node-a")
    tainted["spec"]["taints"] = [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]

    with changed(node, tainted):
        answer = eventually(lambda: daemon.get("/healthz", HEALTHZ), lambda found: found.status == 503)
        assert timeless(answer.body) == timeless((FIXTURE / "healthz.json").read_text()).replace(
            '"nodeEligible":true', '"nodeEligible":false'
        )
        lives = daemon.get("/livez", HEALTHZ)
        assert lives.status == 200
        assert list(json.loads(lives.body)) == ["lastUpdated", "currentTime", "healthy", "status"]
        assert daemon.metrics("kubeproxy_proxy_healthz_total").keys() >= {'code="503"'}

    eventually(lambda: daemon.get("/healthz", HEALTHZ), lambda found: found.status == 200)


def test_the_health_server_has_no_other_pages(daemon: Daemon) -> None:
    for path in ("/", "/metrics", "/healthz/", "/readyz"):
        answer = daemon.get(path, HEALTHZ)
        assert (answer.status, answer.body) == NOT_FOUND


# A Service's health-check node port


def test_a_health_check_node_port_is_kube_proxys(daemon: Daemon) -> None:
    head, _, body = (FIXTURE / "healthchecknodeport.txt").read_text().partition("\n\n")
    status, *headers = head.splitlines()

    answer = daemon.get("/any/path", CHECK_PORT)

    assert f"HTTP/1.1 {answer.status} OK" == status
    assert answer.body == body.rstrip("\n")
    told = dict(line.lower().split(": ", 1) for line in headers)
    assert answer.headers.keys() == told.keys()
    assert {name: text.lower() for name, text in answer.headers.items() if name != "date"} == {
        name: text for name, text in told.items() if name != "date"
    }


def test_a_health_check_node_port_follows_the_endpoints(daemon: Daemon, node: Node) -> None:
    elsewhere = find("EndpointSlice", "edge-1")
    elsewhere["endpoints"] = [one for one in elsewhere["endpoints"] if one["nodeName"] != NODE]
    moved = find("Service", "edge")
    moved["spec"]["healthCheckNodePort"] = CHECK_PORT + 1

    with changed(node, elsewhere):
        answer = eventually(lambda: daemon.get("/", CHECK_PORT), lambda found: found.status == 503)
        assert json.loads(answer.body) == {
            "service": {"namespace": "shop", "name": "edge"},
            "localEndpoints": 0,
            "serviceProxyHealthy": True,
        }
        assert answer.headers["x-load-balancing-endpoint-weight"] == "0"
    with changed(node, moved):
        assert eventually(lambda: daemon.get("/", CHECK_PORT + 1)).status == 200
        with pytest.raises(ConnectionRefusedError):
            daemon.get("/", CHECK_PORT)
    eventually(lambda: daemon.get("/", CHECK_PORT), lambda found: found.status == 200)


# The metrics server


def families(text: str) -> dict[str, tuple[str, str, set[str]]]:
    """Of kube-proxy's metrics: type, help text and series, these without buckets."""
    return {
        family.name: (
            family.type,
            family.documentation,
            {
                json.dumps({name: value for name, value in sample.labels.items() if name != "le"}, sort_keys=True)
                for sample in family.samples
            },
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("kubeproxy_")
    }


def bounds(text: str) -> dict[str, list[str]]:
    """The bounds of each histogram's buckets, as they are written, in their order."""
    found: dict[str, list[str]] = {}
    for name, family, bound in re.findall(r'^(kubeproxy_\w+)_bucket{ip_family="(\w+)",le="([^"]+)"}', text, re.M):
        if family == "IPv4":
            found.setdefault(name, []).append(bound)
    return found


def test_the_metrics_are_kube_proxys(daemon: Daemon) -> None:
    daemon.get("/healthz", HEALTHZ)
    daemon.get("/livez", HEALTHZ)
    text = (FIXTURE / "metrics-iptables.txt").read_text()
    wanted = families(text)
    if not counts_packets():
        wanted = {name: one for name, one in wanted.items() if not name.startswith("kubeproxy_iptables_")}

    found = eventually(lambda: daemon.get("/metrics"), lambda got: "conntrack_reconciler_sync" in got.body)

    got = families(found.body)
    assert {name: one for name, one in got.items() if name not in LATER} == wanted
    for name, (type_, text_, labels) in LATER.items():
        assert name not in got or got[name][:2] == (type_, text_)
        assert name not in got or all(json.loads(series).keys() == labels for series in got[name][2])
    assert bounds(found.body).items() >= bounds(text).items()
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    "name",
    [
        "kubeproxy_sync_proxy_rules_iptables_total",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
        "kubeproxy_sync_proxy_rules_service_changes_pending",
    ],
)
def test_what_is_counted_is_what_kube_proxy_counted(name: str, daemon: Daemon) -> None:
    told = (FIXTURE / "metrics-iptables.txt").read_text()
    wanted = dict(re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", told, re.M))

    eventually(lambda: daemon.metrics(name), lambda found: found == {k: float(text) for k, text in wanted.items()})


def test_the_process_and_conntrack_are_measured(daemon: Daemon) -> None:
    assert daemon.metric("process_resident_memory_bytes") > 1 << 20
    assert daemon.metric("process_open_fds") > 3
    assert daemon.metric("kpx_conntrack_entries") >= 0


def test_the_configuration_that_holds(daemon: Daemon) -> None:
    answer = daemon.get("/configz")

    shown = json.loads(answer.body)["kubeproxy.config.k8s.io"]
    assert answer.headers["content-type"] == "application/json"
    assert (shown["kind"], shown["apiVersion"]) == ("KubeProxyConfiguration", "kubeproxy.config.k8s.io/v1alpha1")
    assert (shown["mode"], shown["iptables"]["syncPeriod"], shown["ipvs"]["syncPeriod"]) == ("iptables", "30s", "0s")
    assert shown["clusterCIDR"] == "10.244.0.0/16,fd00:244::/48"


def test_the_flags(daemon: Daemon, node: Node) -> None:
    _, heading, warning, _, *lines = daemon.get("/flagz").body.splitlines()

    assert heading == "kube-proxy flagz"
    assert warning.startswith("Warning: This endpoint is not meant to be machine parseable")
    assert [line.partition(":")[0] for line in lines] == sorted(FLAGS)
    assert {"v:2", f"config:{node.config}", "bind-address:0.0.0.0"} <= set(lines)


def test_the_status(daemon: Daemon) -> None:
    body = daemon.get("/statusz").body

    assert body.startswith("\nkube-proxy statusz\nWarning: ")
    assert re.search(r"^Started: .*\d{4}", body, re.M)
    assert re.search(r"^Up: +0 hr 00 min \d\d sec$", body, re.M)
    assert re.search(r"^Binary version: v1\.36\.\d+\+kpx", body, re.M)
    assert re.search(r"^Paths: .*/configz.* /statusz", body, re.M)


def test_short_answers(daemon: Daemon) -> None:
    wanted = {
        "/proxyMode": "iptables",
        "/healthz": "ok",
        "/healthz/ping": "ok",
        "/healthz?verbose": "[+]ping ok\nhealthz check passed\n",
    }
    for path, body in wanted.items():
        answer = daemon.get(path)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["content-type"].startswith("text/plain")
    assert daemon.get("/proxyMode", method="HEAD") == Answer(200, daemon.get("/proxyMode").headers, "")


def test_health_checks_as_service_level_indicators(daemon: Daemon) -> None:
    daemon.get("/healthz")

    text = daemon.get("/metrics/slis").body

    assert 'kubernetes_healthcheck{name="ping",type="healthz"} 1' in text
    assert re.search(r'^kubernetes_healthchecks_total{name="ping",status="success",type="healthz"} \d', text, re.M)


def test_the_metrics_server_has_no_other_pages(daemon: Daemon) -> None:
    for path in ("/", "/livez", "/debug/pprof/", "/debug/flags/v", "/proxymode"):
        answer = daemon.get(path)
        assert (answer.status, answer.body) == NOT_FOUND
