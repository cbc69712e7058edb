"""The daemon's unix socket: what it tells, to whom, and that it is in nobody's way."""

from __future__ import annotations

import http.client
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpx.lab import Lab
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.places import started, within
from tests.kernel.daemon.process import Daemon, eventually
from tests.unit.cluster.objects import endpoint_slice, service


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


def ask(daemon: Daemon, path: str) -> Any:
    connection = http.client.HTTPConnection("localhost", timeout=5)
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(5)
        connected.connect(str(daemon.socket))
        connection.sock = connected
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_sync_tells_its_phases(mode: str, place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, mode)

    first = ask(daemon, "/v1/syncs")["syncs"][-1]
    assert list(first["phases"]) == ["decide", "read", "render", "write"]
    assert min(first["phases"].values()) > 0
    assert sum(first["phases"].values()) == pytest.approx(first["seconds"], abs=1e-5)

    node.write("late.yaml", service("late", "10.96.100.77"), endpoint_slice("late", "10.244.21.10"))
    last = eventually(lambda: ask(daemon, "/v1/syncs")["syncs"][0], lambda one: "default/late" in str(one))
    assert last["phases"]["write"] > 0


def test_what_it_tells(place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, "nftables")

    status = ask(daemon, "/v1/status")
    assert (status["node"], status["mode"], status["process"]) == ("node-a", "nftables", daemon.process.pid)
    assert status["origin"]["manifests"] == str(node.manifests)
    assert status["configuration"]["kubeproxy.config.k8s.io"]["clusterCIDR"] == "10.244.0.0/16,fd00:244::/48"
    assert [(one["family"], one["error"], bool(one["lastSuccess"])) for one in status["families"]] == [
        ("IPv4", "", True),
        ("IPv6", "", True),
    ]
    first = ask(daemon, "/v1/syncs")["syncs"][-1]
    assert (first["full"], first["reason"]) == (True, "the first sync")
    assert first["changed"] > len(first["servicePorts"]) - 1 > 0

    node.write("late.yaml", service("late", "10.96.100.77"), endpoint_slice("late", "10.244.21.10"))
    (late,) = eventually(lambda: ask(daemon, "/v1/frontends?name=late&family=IPv4")["frontends"])
    assert [one["address"] for one in late["frontends"]] == ["10.96.100.77"]
    names = {(one["name"], one["family"]) for one in ask(daemon, "/v1/frontends?address=10.96.100.77")["frontends"]}
    assert ("late", "IPv4") in names
    assert ("web", "IPv4") not in names
    assert {one["name"] for one in ask(daemon, "/v1/frontends?address=10.199.0.21&port=30080")["frontends"]} == {
        "front"
    }
    last = eventually(lambda: ask(daemon, "/v1/syncs")["syncs"][0], lambda one: "default/late" in str(one))
    assert (last["full"], last["reason"]) == (False, "the cluster changed")

    node.write("bad.yaml", service("bad", "nonsense"))
    (bad,) = eventually(lambda: ask(daemon, "/v1/rejected")["rejected"])
    assert (bad["kind"], bad["name"]) == ("Service", "bad")
    assert "'nonsense' is not an IP address" in bad["reason"]

    within(place, "nft", "delete", "table", "ip", "kpx")
    drift = eventually(lambda: ask(daemon, "/v1/drift")["drift"])[0]
    assert drift["family"] == "IPv4"
    assert "nft[" in drift["what"]
    assert drift["repaired"]
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


def test_a_daemon_that_was_killed_leaves_its_socket_to_the_next(place: Lab, node: Node, daemons: Daemons) -> None:
    first = started(daemons, place, node, "iptables")
    left = first.socket
    first.process.kill()
    first.ended()
    assert left.is_socket()
    second = daemons.start(*first.command, namespace=first.namespace, path=left).synced()

    assert ask(second, "/v1/status")["process"] == second.process.pid


def test_the_socket_of_a_daemon_that_lives_stays_its_own(place: Lab, node: Node, daemons: Daemons) -> None:
    first = started(daemons, place, node, "iptables")
    command = [*first.command, "--take-over"]
    second = daemons.start(*command, namespace=first.namespace, path=first.socket)

    second.logs(rf"the tools' socket: another daemon, process {first.process.pid}, serves")
    assert ask(first, "/v1/status")["process"] == first.process.pid


def test_a_daemon_that_cannot_make_its_socket_works_all_the_same(place: Lab, node: Node, daemons: Daemons) -> None:
    (node.folder / "file").write_text("")
    first = started(daemons, place, node, "iptables")
    first.end()
    path = Path(node.folder / "file" / "kpx.sock")
    second = daemons.start(*first.command, namespace=first.namespace, path=path).synced()

    second.logs("W.* the tools' socket: .*Not a directory|W.* the tools' socket: .*File exists")
