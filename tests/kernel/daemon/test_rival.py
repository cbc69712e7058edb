"""Another service proxy is alive on the node."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.process import HEALTHZ, KPX, METRICS, run


@pytest.fixture
def kube_proxy(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the test's network namespace that is called kube-proxy."""
    program = tmp_path / "kube-proxy"
    shutil.copy2("/bin/sleep", program)
    process = subprocess.Popen([program, "1000"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_is_waited_for(kube_proxy: subprocess.Popen[bytes], node: Node, daemons: Daemons) -> None:
    daemon = daemons.start(*node.command)
    other = rf"kube-proxy\[{kube_proxy.pid}\]"
    daemon.logs(rf"{other} is alive on this node: waiting for it to end before anything is programmed \(--take-over")
    for port in (HEALTHZ, METRICS):
        with pytest.raises(ConnectionRefusedError):
            daemon.get("/healthz", port)
    assert "KUBE" not in run("iptables-save").stdout

    kube_proxy.kill()
    kube_proxy.wait()

    daemon.synced()
    daemon.healthy()
    assert len(re.findall("is alive on this node", daemon.log)) == 1


def test_it_is_taken_over_from(kube_proxy: subprocess.Popen[bytes], node: Node, daemons: Daemons) -> None:
    daemon = daemons.start(*node.command, "--take-over").synced()

    assert kube_proxy.poll() is None
    assert "is alive" not in daemon.log


def test_waiting_can_be_ended(kube_proxy: subprocess.Popen[bytes], node: Node, daemons: Daemons) -> None:
    daemon = daemons.start(*node.command)
    daemon.logs("is alive on this node")

    assert daemon.end() == 143
    assert kube_proxy.poll() is None


@pytest.mark.usefixtures("kube_proxy")
def test_what_programs_nothing_does_not_wait(node: Node) -> None:
    assert run(*node.command, "--init-only").status == 0
    assert run(*KPX, "cleanup").status == 0


def test_a_second_daemon_waits_and_one_in_another_network_does_not(node: Node, daemons: Daemons) -> None:
    first = daemons.start(*node.command).synced()

    second = daemons.start(*node.command)
    elsewhere = daemons.start("unshare", "--net", *node.command)

    second.logs(rf"\w+\[{first.process.pid}\] is alive on this node")
    elsewhere.logs("event regarding Node node-a: Starting")
    assert first.end() == 143
    second.synced()
