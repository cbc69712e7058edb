"""The daemon beside an API server that vanishes, forgets and breaks off, while connections are made: none is lost."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from kpx import lab
from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from tests.apiserver import ApiServer, Cut
from tests.apiserver.__main__ import load
from tests.apiserver.store import RESOURCES, Stored
from tests.deployment import granted
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.process import HEALTHZ, KPX, METRICS, Daemon, eventually
from tests.kernel.daemon.traffic import streaming
from tests.unit.cluster.conftest import write_kubeconfig
from tests.unit.cluster.objects import endpoint_slice, service


@pytest.fixture
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


@pytest.fixture
def server(place: Lab, node: Node) -> Iterator[ApiServer]:
    """An API server on the node's loopback address, with the lab's objects."""
    server = ApiServer()
    for manifest in sorted(node.manifests.iterdir()):
        for document in yaml.safe_load_all(manifest.read_text()):
            load(server, document)
    start(server, place)
    try:
        yield server
    finally:
        server.stop()


def start(server: ApiServer, place: Lab) -> None:
    with namespaces.entered(place.namespace(NODE)):
        server.start()


@pytest.fixture
def restart(server: ApiServer, place: Lab, node: Node, daemons: Daemons, tmp_path: Path) -> Callable[[], Daemon]:
    """Start a daemon on the node."""
    node.configure(clientConnection={"kubeconfig": write_kubeconfig(tmp_path, server.url), "qps": 100, "burst": 100})
    command = lab.command(place.name, NODE, [*KPX, "daemon", "--config", str(node.config), "-v=2"])
    return lambda: daemons.start(*command, namespace=place.namespace(NODE))


@pytest.fixture
def daemon(restart: Callable[[], Daemon]) -> Daemon:
    return restart().synced()


def saved(place: Lab) -> str:
    words = lab.command(place.name, NODE, ["iptables-save", "-t", "nat"])
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def added(server: ApiServer, name: str, address: str) -> None:
    server.put(service(name, address))
    server.put(endpoint_slice(name, "10.244.21.10"))


def followed(place: Lab, name: str, *, there: bool = True) -> None:
    """Wait until a Service is programmed, or is not any more."""
    eventually(lambda: f"default/{name} cluster IP" in saved(place), lambda found: found is there, name)


def test_it_tells_the_cluster_that_it_starts(server: ApiServer, daemon: Daemon) -> None:
    daemon.healthy()
    (event,) = eventually(lambda: events(server))
    told = msgspec.json.decode(event.body)
    assert (told["type"], told["reason"], told["action"]) == ("Normal", "Starting", "StartKubeProxy")
    assert told["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": NODE}
    assert told["reportingController"] == "kube-proxy"
    assert re.match("kube-proxy-.", told["reportingInstance"])
    assert {'kind="Service"', 'kind="EndpointSlice"', 'kind="Node"'} <= daemon.metrics("kpx_watch_age_seconds").keys()


def test_what_the_manifests_grant_is_enough(server: ApiServer, place: Lab, restart: Callable[[], Daemon]) -> None:
    server.faults.rules = granted()
    daemon = restart().synced().healthy()
    added(server, "late", "10.96.100.77")
    followed(place, "late")
    eventually(lambda: events(server))

    codes = {re.findall('code="(.*?)"', series)[0] for series in daemon.metrics("rest_client_requests_total")}
    assert codes == {"200", "201"}
    assert {request.plural for request in server.requests} == set(RESOURCES) - {"pods"}
    assert "forbidden" not in daemon.log


def test_what_no_role_grants_is_refused(server: ApiServer, restart: Callable[[], Daemon]) -> None:
    server.faults.rules = [rule for rule in granted() if "endpointslices" not in rule["resources"]]
    restart().logs("endpointslices is forbidden.*bind the ClusterRole system:node-proxier")


def test_it_vanishes_and_returns_with_changes(
    server: ApiServer, place: Lab, daemon: Daemon, restart: Callable[[], Daemon]
) -> None:
    added(server, "first", "10.96.100.71")
    followed(place, "first")
    before = saved(place).count("\n-A ")
    with streaming(place) as stream:
        server.stop()
        daemon.logs(r"cannot follow services \(attempt \d\): .*check that the API server runs there")
        stream.more()
        assert saved(place).count("\n-A ") == before
        assert daemon.get("/healthz", HEALTHZ).status == daemon.get("/livez", HEALTHZ).status == 200
        assert daemon.end() == 143
        daemon = restart()
        daemon.logs("cannot follow endpointslices")
        stream.more()
        assert saved(place).count("\n-A ") == before
        server.delete("services", "first")
        added(server, "second", "10.96.100.72")
        start(server, place)
        followed(place, "second")
        followed(place, "first", there=False)
        daemon.logs("services are followed again")
    assert daemon.process.poll() is None


def test_it_forgets_and_breaks_off(server: ApiServer, place: Lab, daemon: Daemon) -> None:
    full = daemon.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count")
    with streaming(place) as stream:
        for number, how in enumerate(Cut):
            server.cut(how=how)
            added(server, f"after-{number}", f"10.96.100.8{number}")
            followed(place, f"after-{number}")
        added(server, "gone", "10.96.100.90")
        followed(place, "gone")
        server.store.compact()
        server.cut()
        server.delete("services", "gone")
        server.store.compact()
        followed(place, "gone", there=False)
        stream.more()
    assert daemon.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count") == full


def test_a_port_that_is_taken_is_told_the_cluster(
    server: ApiServer, place: Lab, node: Node, daemons: Daemons, tmp_path: Path
) -> None:
    kubeconfig = write_kubeconfig(tmp_path, server.url)
    node.configure(clientConnection={"kubeconfig": kubeconfig}, bindAddressHardFail=True)
    command = lab.command(place.name, NODE, [*KPX, "daemon", "--config", str(node.config)])
    with namespaces.entered(place.namespace(NODE)):
        taken = socket.create_server(("127.0.0.1", METRICS))
    with taken:
        assert daemons.start(*command).ended() == 1

    told = [msgspec.json.decode(one.body) for one in events(server)]
    assert [(one["type"], one["reason"]) for one in told] == [("Warning", "FailedToStartMetricServer")]
    assert told[0]["note"].endswith(f"cannot listen on 127.0.0.1:{METRICS}: Address already in use")


def events(server: ApiServer) -> list[Stored]:
    return server.store.page("events", lambda _: True, {})[0]
