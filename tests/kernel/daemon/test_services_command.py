"""`kpx services` on a node: who is asked, and what the kernel has counted of real connections."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpx import lab
from kpx.lab import Lab
from kpx.lab.requests import Outcome, Request, send
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import FIXTURE, Daemons, Node, lab_of
from tests.kernel.daemon.places import api_server, started, within, write_kubeconfig
from tests.kernel.daemon.process import KPX, UNPRIVILEGED, Ended, run


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


@dataclass
class Here:
    """The node, on which commands are run."""

    place: Lab
    socket: Path

    def kpx(self, *words: str, status: int = 0) -> Ended:
        done = run(
            *lab.command(self.place.name, NODE, ["env", f"KPX_SOCKET={self.socket}", "KUBECONFIG=", *KPX, *words]),
            env={"HOME": "/nowhere", "NO_PROXY": "*"},
        )
        assert done.status == status, (done.stdout, done.stderr)
        return done

    def services(self, *words: str) -> dict[str, Any]:
        """The rows, by name."""
        table = json.loads(self.kpx("services", "-o", "json", *words).stdout)
        assert table["apiVersion"] == "kpx/v1"
        return {f"{one['namespace']}/{one['name']}:{one['port']}": one for one in table["services"]}


def connect(place: Lab, source: str, protocol: str, address: str, port: int, times: int) -> None:
    replies = send([Request(place.namespace(source), protocol, address, port)] * times)
    assert {one.outcome for one in replies} == {Outcome.ANSWERED}


def traffic(place: Lab) -> None:
    """Ten connections to shop/web (five in each family), six to shop/dns, eight to a node port, four sticky ones."""
    connect(place, "a11", "tcp", "10.96.100.1", 80, 5)
    connect(place, "a11", "tcp", "fd00:96::1001", 80, 5)
    connect(place, "a10", "udp", "10.96.100.2", 53, 6)
    connect(place, "client", "tcp", "10.199.0.21", 30080, 8)
    connect(place, "a11", "tcp", "10.96.100.5", 80, 4)


COUNTED = {"shop/web:http": 10, "shop/dns:dns": 6, "shop/front:http": 8, "shop/cart:http": 4, "shop/cache:redis": 0}


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_new_connections_are_counted_for_each_endpoint(mode: str, place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, mode)
    here = Here(place, daemon.socket)
    before = here.services()
    traffic(place)

    after = here.services()

    assert {name: after[name]["connections"] - before[name]["connections"] for name in COUNTED} == COUNTED
    for name in COUNTED:
        assert sum(one["connections"] for one in after[name]["endpoints"]) == after[name]["connections"]
    sticky = [one["connections"] for one in after["shop/cart:http"]["endpoints"] if one["connections"]]
    assert len(sticky) == 1, "all four come from one client"
    alone = here.services("--kernel-only")
    assert {name: one["connections"] for name, one in alone.items()} == {
        name: one["connections"] for name, one in after.items()
    }
    assert alone["shop/empty:http"]["withoutEndpoints"]
    daemon.end()
    within(place, *KPX, "cleanup")


def test_rates(place: Lab, node: Node, daemons: Daemons) -> None:
    here = Here(place, started(daemons, place, node, "nftables").socket)
    command = ["env", f"KPX_SOCKET={here.socket}", *KPX, "services", "shop/web", "-o", "json", "-w", "2"]
    with subprocess.Popen(lab.command(place.name, NODE, command), stdout=subprocess.PIPE) as running:
        while running.poll() is None:
            connect(place, "a11", "tcp", "10.96.100.1", 80, 1)
        assert running.stdout is not None
        (row,) = json.loads(running.stdout.read())["services"]

    assert row["perSecond"] > 1
    assert sum(one["perSecond"] for one in row["endpoints"]) == pytest.approx(row["perSecond"], abs=0.05)


def test_text_and_filters(place: Lab, node: Node, daemons: Daemons) -> None:
    here = Here(place, started(daemons, place, node, "nftables").socket)

    heads, *lines = here.kpx("services").stdout.splitlines()
    assert heads.split() == ["NAMESPACE", "NAME", "PORTS", "KINDS", "ADDRESSES", "ENDPOINTS", "CONNECTIONS"]
    assert any(line.split()[1:3] == ["empty", "80:30081/TCP"] and "0/0 NONE" in line for line in lines)
    assert here.services("svc/web", "-n", "shop").keys() == {"shop/web:http"}
    assert here.services("dns").keys() == {"shop/dns:dns", "shop/dns:dns-tcp"}
    assert here.services("shop/dns:53").keys() == {"shop/dns:dns", "shop/dns:dns-tcp"}
    assert here.services("^shop/(web|cart):").keys() == {"shop/web:http", "shop/cart:http"}
    assert here.services("--ip", "192.0.2.10").keys() == {"shop/edge:https"}
    assert here.services("--port", "30080").keys() == {"shop/front:http"}
    assert "-> 10.244.21.10:8080" in here.kpx("services", "web", "--endpoints").stdout


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["shop/wep"], 1, "there is no Service wep in namespace shop; is it one of shop/web?"),
        (["shop/web:81"], 1, "shop/web has no port 81: it has http or 80 (TCP)"),
        (["pods", "-n", "shop"], 1, "shop/pods is headless (clusterIP: None)"),
        (["shop/far"], 1, "DNS answers with far.example"),
        (["a(b"], 2, "is neither the name of a Service nor a regular expression"),
        (["web", "--ip", "nonsense"], 2, "--ip nonsense is no IP address"),
        (["-A", "-n", "shop"], 2, "exclude each other"),
    ],
)
def test_what_cannot_be_shown(
    words: Sequence[str], status: int, said: str, place: Lab, node: Node, daemons: Daemons
) -> None:
    spec = {"metadata": {"namespace": "shop", "name": "pods"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
    far = {"type": "ExternalName", "externalName": "far.example"}
    base = {"apiVersion": "v1", "kind": "Service"}
    node.write("others.yaml", {**base, **spec}, {**base, "metadata": {"namespace": "shop", "name": "far"}, "spec": far})
    here = Here(place, started(daemons, place, node, "nftables").socket)

    done = here.kpx("services", *words, status=status)

    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert not done.stdout


def test_without_a_daemon_the_api_server_is_asked(place: Lab, node: Node, daemons: Daemons, tmp_path: Path) -> None:
    daemon = started(daemons, place, node, "iptables")
    wanted = Here(place, daemon.socket).services()
    daemon.end()
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, "http://127.0.0.1:8001")
    here = Here(place, daemon.socket)
    with api_server(place, node):
        found = here.services("--kubeconfig", str(kubeconfig), "--node", "node-a")

    assert found == wanted
    unreachable = here.kpx("services", "--kubeconfig", str(kubeconfig), status=1)
    assert "http://127.0.0.1:8001 cannot be connected to" in unreachable.stderr
    assert here.services("--manifests", str(node.manifests), "--node", "node-a") == wanted
    lost = here.kpx("services", "--manifests", str(node.manifests), "--node", "elsewhere")
    assert "the cluster has no Node elsewhere, so no endpoint counts as local" in lost.stderr


def test_with_nobody_to_ask_it_is_said_what_is_shown(place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, "nftables")
    daemon.end()
    here = Here(place, daemon.socket)

    done = here.kpx("services")

    assert "shop" in done.stdout
    assert f"no kpx daemon answers at {daemon.socket}" in done.stderr
    assert "no kubeconfig was found" in done.stderr
    assert "this is what the kernel holds; what the cluster wants is not known" in done.stderr
    for _ in range(2):  # what earlier tests left beside our table goes after it
        within(place, *KPX, "cleanup")
    assert "the kernel holds no rules of a service proxy" in here.kpx("services", status=1).stderr


def test_the_tables_of_a_stock_kube_proxy(place: Lab, tmp_path: Path) -> None:
    here = Here(place, tmp_path / "none.sock")
    within(place, "nft", "-f", "-", stdin=(FIXTURE / "nftables.txt").read_text())
    try:
        done = here.kpx("services", "shop/web", "--endpoints")
        found = here.services("--kernel-only")
    finally:
        within(place, "nft", "flush", "ruleset")

    assert "kube-proxy, mode nftables counts no connections for each endpoint" in done.stderr
    assert {one["address"] for one in found["shop/web:http"]["addresses"]} == {"10.96.100.1"}
    assert found["shop/web:http"]["connections"] is None
    assert found["shop/sticky:"]["endpoints"]


def test_without_root_it_is_said_what_is_missing(place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, "nftables")
    here = Here(place, daemon.socket)
    command = [*UNPRIVILEGED, "env", f"KPX_SOCKET={daemon.socket}", "HOME=/nowhere"]

    done = run(*lab.command(place.name, NODE, [*command, *KPX, "services"]))

    assert done.status == 1
    assert "is for root: run it with sudo" in done.stderr
    assert here.services()
