"""`kpx conntrack` on a node, with real flows."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpx import lab
from kpx.kernel import conntrack
from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.places import started
from tests.kernel.daemon.process import KPX, eventually
from tests.kernel.daemon.test_services_command import Here, connect

GONE = "10.244.21.99"


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


@pytest.fixture
def here(place: Lab, node: Node, daemons: Daemons) -> Here:
    return Here(place, started(daemons, place, node, "nftables").socket)


def report(here: Here, *words: str) -> Any:
    return json.loads(here.kpx("conntrack", "-o", "json", "-w", "0.1", *words).stdout)


def plant(place: Lab, protocol: str, port: int, address: str, address_port: int, backend: str) -> None:
    """An entry as a flow to that backend leaves it: what another proxy has not removed."""
    state = ["--state", "SYN_SENT"] if protocol == "tcp" else []
    words = ["conntrack", "-I", "-p", protocol, "-s", "10.244.21.11", "-d", address, "--sport", str(port)]
    words += ["--dport", str(address_port), "-r", backend, "-q", "10.244.21.11", "--timeout", "100", *state]
    command = [*words, "--reply-port-src", str(address_port), "--reply-port-dst", str(port)]
    subprocess.run(lab.command(place.name, NODE, command), check=True, capture_output=True)


@pytest.fixture
def stale(place: Lab, here: Here) -> Iterator[Here]:
    """Two stale flows (of UDP, and of TCP without an answer), and others that are not."""
    connect(place, "a10", "udp", "10.96.100.2", 53, 2)
    connect(place, "a11", "tcp", "10.96.100.1", 80, 2)
    plant(place, "udp", 4001, "10.96.100.2", 53, GONE)
    plant(place, "tcp", 4002, "10.96.100.1", 80, GONE)
    yield here
    subprocess.run(lab.command(place.name, NODE, ["conntrack", "-F"]), check=True, capture_output=True)


def test_the_table_summed_up(place: Lab, here: Here) -> None:
    connect(place, "a10", "udp", "10.96.100.2", 53, 4)
    connect(place, "a11", "tcp", "10.96.100.1", 80, 3)

    found = report(here)

    assert found["usage"]["limit"] >= found["usage"]["entries"] >= 7
    assert {"drop", "insert_failed", "early_drop"} <= found["usage"]["statistics"].keys()
    services = {one["name"]: one["flows"] for one in found["services"]}
    assert services["shop/dns:dns/UDP"] >= 4
    assert services["shop/web:http/TCP"] >= 3
    assert {"TCP TIME_WAIT", "UDP replied"} <= {one["name"] for one in found["states"]}
    assert {"10.244.21.10", "10.244.21.11"} <= {one["name"] for one in found["clients"]}
    assert found["flows"] is None
    assert "shop/dns:dns/UDP" in here.kpx("conntrack", "-w", "0.1").stdout


def test_the_flows_of_a_service(place: Lab, here: Here) -> None:
    connect(place, "client", "tcp", "10.199.0.21", 30080, 2)

    lines = here.kpx("conntrack", "--service", "svc/front", "-n", "shop").stdout.splitlines()

    assert len(lines) == 2
    for line in lines:
        protocol, _, client, _, address, _, backend, _, seen, *_ = line.split()
        assert (protocol, address) == ("TCP", "10.199.0.21:30080")
        assert client.startswith("203.0.113.10:")
        assert backend in ("10.244.21.12:8080", "10.244.22.11:8080")
        assert seen.startswith("10.")
    assert "is it one of shop/front" in here.kpx("conntrack", "--service", "shop/frnt", status=1).stderr


def test_stale_flows_are_found(stale: Here) -> None:
    found = report(stale, "--stale")["flows"]

    assert sorted((one["protocol"], one["service"], one["backend"]) for one in found) == [
        ("TCP", "shop/web:http", f"{GONE}:80"),
        ("UDP", "shop/dns:dns", f"{GONE}:53"),
    ]
    assert len(report(stale, "--stale", "--service", "shop/dns")["flows"]) == 1


def test_just_the_stale_flows_are_removed(stale: Here) -> None:
    before = report(stale)["usage"]["entries"]

    done = stale.kpx("conntrack", "--stale", "--delete", "--yes")

    assert done.stdout.count(GONE) == 2
    assert "removed 2 of 2 stale flows" in done.stderr
    assert report(stale, "--stale")["flows"] == []
    assert report(stale)["usage"]["entries"] == before - 2


def test_nothing_is_removed_without_a_yes(stale: Here) -> None:
    refused = stale.kpx("conntrack", "--stale", "--delete", status=1)
    assert "give --yes" in refused.stderr
    assert answered(stale, "n") == (1, 2)
    assert answered(stale, "y") == (0, 0)


def answered(here: Here, answer: str) -> tuple[int, int]:
    """The status after that answer on a terminal, and how many stale flows are left."""
    words = ["env", f"KPX_SOCKET={here.socket}", *KPX, "conntrack", "--stale", "--delete"]
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        command = lab.command(here.place.name, NODE, words)
        done = subprocess.run(command, stdin=theirs, capture_output=True, check=False, timeout=30)
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, len(report(here, "--stale")["flows"])


@pytest.mark.parametrize("words", [["--delete"], ["--yes"], ["--stale", "--delete", "-o", "json"]])
def test_mistakes_in_the_command(words: list[str], here: Here) -> None:
    assert here.kpx("conntrack", *words, status=2).stderr.startswith("kpx conntrack: ")


def test_where_nobody_tells_the_table_is_summed_up_all_the_same(place: Lab, tmp_path: Path) -> None:
    bare = Here(place, tmp_path / "none.sock")
    empty = tmp_path / "empty"
    empty.mkdir()

    assert report(bare, "--manifests", str(empty))["services"] == []


def test_the_states_of_tcp(place: Lab, here: Here) -> None:
    def states() -> set[str]:
        return {one["name"] for one in report(here)["states"]}

    with namespaces.entered(place.namespace("a11")):
        held = socket.create_connection(("10.96.100.1", 80), timeout=5)
    with held:
        eventually(states, lambda found: "TCP ESTABLISHED" in found)


def test_what_the_kernel_counts_is_of_the_threads_own_namespace(place: Lab) -> None:
    with namespaces.entered(place.namespace(NODE)):
        assert {"drop", "insert_failed", "early_drop", "search_restart"} <= conntrack.statistics().keys()
