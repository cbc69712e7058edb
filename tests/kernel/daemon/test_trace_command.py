"""`kpx trace` on a node where the daemon runs: names, what is beside the walk, and what is wrong with a question."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpx import lab
from kpx.lab import Lab
from kpx.lab.requests import Outcome, Request, send
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.places import api_server, started, write_kubeconfig
from tests.kernel.daemon.process import KPX, Daemon, Ended, run

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "namespace": "shop"},
    "spec": {"containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}]},
    "status": {"phase": "Running", "podIP": "10.244.21.10", "podIPs": [{"ip": "10.244.21.10"}]},
}


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


@pytest.fixture
def daemon(place: Lab, node: Node, daemons: Daemons) -> Daemon:
    return started(daemons, place, node, "nftables")


def kpx(place: Lab, socket: Path, *words: str, status: int = 0) -> Ended:
    done = run(
        *lab.command(place.name, NODE, ["env", f"KPX_SOCKET={socket}", "KUBECONFIG=", *KPX, *words]),
        env={"HOME": "/nowhere", "NO_PROXY": "*"},
    )
    assert done.status == status, (done.stdout, done.stderr)
    return done


def traces(place: Lab, daemon: Daemon, *words: str, status: int = 0) -> list[dict[str, Any]]:
    document = json.loads(kpx(place, daemon.socket, "trace", "-o", "json", *words, status=status).stdout)
    assert (document["apiVersion"], document["source"]) == ("kpx/v1", "daemon")
    traced: list[dict[str, Any]] = document["traces"]
    return traced


def targets(traced: list[dict[str, Any]]) -> list[str]:
    return [f"{one['target']['address']} {one['target']['port']}/{one['target']['protocol']}" for one in traced]


def test_the_addresses_that_a_name_stands_for(place: Lab, daemon: Daemon) -> None:
    web = ["10.96.100.1 80/tcp", "fd00:96::1001 80/tcp"]
    for words in (["shop/web"], ["svc/web", "-n", "shop"], ["web", "--to-port", "http"], ["shop/web:80"]):
        assert targets(traces(place, daemon, *words)) == web
    assert targets(traces(place, daemon, "shop/front", "--from", "203.0.113.10")) == ["10.96.100.3 80/tcp"]
    outside = traces(place, daemon, "shop/front", "--from", "external")
    assert targets(outside) == ["10.199.0.21 30080/tcp", "fd00:199::21 30080/tcp"]
    assert {one["service"]["kind"] for one in outside} == {"nodeport"}
    assert len(traces(place, daemon, "shop/front", "--via", "all")) == 4


def test_an_address_is_told_by_the_name_of_its_service(place: Lab, daemon: Daemon) -> None:
    for target in ("10.96.100.3:80", "nodeport/30080", "10.199.0.21:30080"):
        (trace,) = traces(place, daemon, target)
        assert (trace["target"]["name"], trace["differences"]) == ("shop/front:http", [])


def test_what_is_beside_the_walk(place: Lab, daemon: Daemon) -> None:
    asked = Request(place.namespace("a11"), "tcp", "10.96.100.1", 80, source_port=6789)
    assert send([asked])[0].outcome is Outcome.ANSWERED

    (trace,) = traces(place, daemon, "shop/web", "--from", "10.244.21.11")

    assert {one["ip"]: (one["ready"], one["share"]) for one in trace["endpoints"]} == {
        "10.244.21.10": (True, 0.5),
        "10.244.22.10": (True, 0.5),
    }
    assert trace["flows"]["complete"]
    clients = [one["client"] for one in trace["flows"]["shown"]]
    assert trace["flows"]["count"] == len(clients)
    assert "10.244.21.11:6789" in clients
    text = kpx(place, daemon.socket, "trace", "shop/web", "--from", "10.244.21.11").stdout
    assert "all this is as the cluster wants it" in text
    assert max(map(len, text.splitlines())) <= 80 + len("  shop/web:http")


def test_what_is_not_as_wanted_gives_the_status(place: Lab, daemon: Daemon) -> None:
    firewall = "table inet fw { chain forward { type filter hook forward priority 0; ip daddr 10.244.22.10 drop; }; }"
    assert run(*lab.command(place.name, NODE, ["nft", firewall])).status == 0
    try:
        text = kpx(place, daemon.socket, "trace", "shop/web", status=3).stdout
    finally:
        run(*lab.command(place.name, NODE, ["nft", "delete table inet fw"]))
    assert "not as the cluster wants it\n  ! what goes to endpoint 10.244.22.10:8080 is dropped by rule" in text


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["shop/wep"], 1, "there is no Service wep in namespace shop; is it one of shop/web?"),
        (["web", "-n", "blog"], 1, "there is no Service web in namespace blog; is it one of shop/web?"),
        (["shop/web:99"], 1, "shop/web has no port 99: it has http or 80 (TCP)"),
        (["shop/web", "--via", "nodeport"], 1, "shop/web has no such address (--via nodeport): it has cluster"),
        (["shop/web", "--from", "mars"], 2, "'mars' is no sender: it is pod, node, external or an IP address."),
        (["a/b/c"], 2, "'a/b/c' names no Service"),
        (["pod/web-1"], 1, "only an API server knows pods by name (--kubeconfig)"),
    ],
)
def test_questions_that_have_no_answer(place: Lab, daemon: Daemon, words: list[str], status: int, told: str) -> None:
    complaint = kpx(place, daemon.socket, "trace", *words, status=status).stderr
    assert complaint.startswith("kpx trace: ")
    assert told in complaint
    assert complaint.count("\n") == 1


def test_the_shell_completes_names(place: Lab, daemon: Daemon) -> None:
    asked = {"_KPX_COMPLETE": "complete_bash", "COMP_WORDS": "kpx trace shop/c", "COMP_CWORD": "2"}
    words = [f"{name}={value}" for name, value in {**asked, "KPX_SOCKET": daemon.socket}.items()]
    script = Path(sys.executable).with_name("kpx")
    done = run(*lab.command(place.name, NODE, ["env", *words, str(script)]), env={"HOME": "/nowhere"})
    assert done.stdout.split() == ["shop/cache", "shop/cart"]


def test_an_api_server_is_asked_for_one_service_and_for_pods(
    place: Lab, node: Node, daemon: Daemon, tmp_path: Path
) -> None:
    daemon.end()
    node.write("pod.yaml", POD)
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, "http://127.0.0.1:8001")
    asked = ["trace", "-o", "json", "--kubeconfig", str(kubeconfig), "--node", "node-a"]
    with api_server(place, node):
        found = {
            target: json.loads(kpx(place, daemon.socket, *asked, *target.split()).stdout)
            for target in (
                "shop/web",
                "svc/dns --to-port dns",
                "10.96.100.3:80",
                "pod/web-1 -n shop",
                "pod/shop/web-1:81",
            )
        }
        complaint = kpx(place, daemon.socket, *asked, "shop/wep", status=1).stderr
        lost = kpx(place, daemon.socket, *asked, "pod/web-2", status=1).stderr

    assert {one["source"] for one in found.values()} == {"api", "none"}
    assert targets(found["shop/web"]["traces"]) == ["10.96.100.1 80/tcp", "fd00:96::1001 80/tcp"]
    assert {one["target"]["name"] for one in found["svc/dns --to-port dns"]["traces"]} == {"shop/dns:dns"}
    assert found["10.96.100.3:80"]["traces"][0]["service"]["name"] == "front"
    assert all(one["differences"] == [] for one in found["shop/web"]["traces"])
    assert targets(found["pod/web-1 -n shop"]["traces"]) == ["10.244.21.10 8080/tcp"]
    assert targets(found["pod/shop/web-1:81"]["traces"]) == ["10.244.21.10 81/tcp"]
    assert "is it one of shop/web?" in complaint
    assert "there is no pod web-2 in namespace default: see `kubectl get pods -n default`" in lost
