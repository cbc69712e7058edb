"""Every screen of `kpx top` on a real node, in every mode: what is on it is what the kernel and the daemon have."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from kpx.tools.cluster import Options
from tests.kernel.daemon.conftest import FIXTURE, Daemons, Node, stock_rules
from tests.kernel.daemon.places import api_server, started, within, write_kubeconfig
from tests.kernel.daemon.test_services_command import connect, traffic
from tests.kernel.top.conftest import Driver, Named, drive


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_every_screen(mode: str, place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, mode).socket)

    async def scenario(top: Driver) -> None:
        await top.until("node-a", f"mode {mode}", "from the daemon", "shop  ", "web:http", "0/0 NONE")
        await top.once(lambda: top.app.shown.counted is not None, "counters")
        traffic(place)
        await top.once(lambda: counted(top, "front:http", 8), "eight connections of shop/front")
        assert counted(top, "web:http", 10)
        assert counted(top, "dns:dns", 6)
        assert counted(top, "cart:http", 4)
        await look_into_a_service(top, place, mode)
        await look_at_the_other_pages(top, mode)

    drive(place, scenario)
    assert not {"top-sampler", "top-live"} & {thread.name for thread in threading.enumerate()}


def counted(top: Driver, name: str, count: int) -> bool:
    """Whether the kernel's count of a service port's connections is on the screen."""
    lines = [line.split() for line in top.text.splitlines() if f" {name} " in line]
    return any(line[-2] == str(count) or line[-3] == str(count) for line in lines)


async def look_into_a_service(top: Driver, place: Lab, mode: str) -> None:
    await top.press("/", *"shop/web", "enter", "enter")
    await top.until(
        "shop/web:http/TCP", "cluster 10.96.100.1:80", "10.244.21.10:8080", "10.244.22.10:8080", "this node"
    )
    await top.press("enter")
    await top.until({"nftables": "ip kpx service-ips: 10.96.100.1 . tcp . 80", "iptables": "-A KUBE-SVC-"}[mode])
    await top.press("escape", "f")
    await top.until("TCP TIME_WAIT", "-> 10.96.100.1:80 -> 10.244.2")
    await top.press("escape", "t")
    await top.until("50.0%: 10.244.21.10:8080", "50.0%: 10.244.22.10:8080", "=> SENT")
    await top.press("f", "f")
    await top.until("from node")
    await top.press("n")
    await top.until("tcp [fd00:96::1001]:80")
    await follow_packets(top, place)
    await top.press("escape", "escape", "escape")


async def follow_packets(top: Driver, place: Lab) -> None:
    await top.press("f", "f", "l")  # from anybody
    await top.until("LIVE: 0 flows; until it ends: ", "waiting for a new flow")
    connect(place, "a11", "tcp", "10.96.100.1", 80, 2)
    await top.until("LIVE: 2 flows", "10.244.21.11:", "-> 10.96.100.1:80 -> 10.244.2", "=> ANSWERED")
    await top.press("l")
    await top.until("=> SENT")
    await top.once(lambda: "kpx-trace" not in within(place, "nft", "list", "tables"), "nothing to be armed")


async def look_at_the_other_pages(top: Driver, mode: str) -> None:
    await top.press("2", "/", *"shopfront", "enter", "enter")
    await top.until("trace shop/shopfront:http", "=> SENT")
    await top.press("3")
    await top.until(f"mode {mode}", "TCP  10.96.100.5:80", "  -> 10.244.22.10:8080")
    await top.press("/", *"shop/empty")
    await top.until("TCP  10.96.100.9:80", "reject")
    await top.press("enter", "enter")
    await top.until("rules of shop/empty:http")
    await top.press("4")
    await top.until("entries", "TCP TIME_WAIT", "shop/web:http/TCP", "10.244.21.11")
    await top.press("5")
    await top.until("IPv4  10 service ports", "the first sync")
    await top.press("enter")
    await top.until("full: all rules were compared")


def test_drift_is_shown_with_who_did_it(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, "nftables").socket)

    async def scenario(top: Driver) -> None:
        await top.until("web:http")
        within(place, "nft", "delete", "element", "ip", "kpx", "service-ips", "{ 10.96.100.1 . tcp . 80 }")
        await top.until("rules changed by others")
        await top.press("5")
        await top.until("DRIFT: ", "by nft[")

    drive(place, scenario)


def test_what_the_cluster_changes_is_shown(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    daemon = started(daemons, place, node, "nftables")
    socket_path(daemon.socket)

    async def scenario(top: Driver) -> None:
        await top.until("web:http", "10 service ports")
        (node.manifests / "10-web.yaml").unlink()
        await top.until("9 service ports")
        assert "web:http" not in top.text

    drive(place, scenario)


def test_a_daemon_that_is_killed_and_comes_back(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    daemon = started(daemons, place, node, "nftables")
    socket_path(daemon.socket)

    async def scenario(top: Driver) -> None:
        await top.until("web:http", "kpx v")
        daemon.end()
        text = await top.until("no kpx daemon answers at")
        assert "web:http" in text
        again = daemons.start(*daemon.command, namespace=daemon.namespace, path=daemon.socket)
        again.synced()
        await top.once(lambda: "no kpx daemon answers" not in top.text, "the daemon to be there again")

    drive(place, scenario)


def test_an_api_server_that_dies_while_packets_are_followed(
    place: Lab, node: Node, daemons: Daemons, socket_path: Named, tmp_path: Path
) -> None:
    started(daemons, place, node, "nftables").end()
    socket_path(tmp_path / "nobody.sock")
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, "http://127.0.0.1:8001")

    async def scenario(top: Driver) -> None:
        with api_server(place, node):
            await top.until("from the API", "web:http")
            await top.press("/", *"shop/web", "enter", "t")
            await top.until("=> SENT")
            await top.press("l")
            await top.until("waiting for a new flow")
        await top.until("cannot be connected to")
        connect(place, "a11", "tcp", "10.96.100.1", 80, 1)
        await top.until("=> ANSWERED")

    drive(place, scenario, Options(kubeconfig=str(kubeconfig), node="node-a"))
    assert "kpx-trace" not in within(place, "nft", "list", "tables")
    assert not {"top-sampler", "top-live"} & {thread.name for thread in threading.enumerate()}


def test_the_kernel_alone(place: Lab, node: Node, daemons: Daemons, socket_path: Named, tmp_path: Path) -> None:
    started(daemons, place, node, "iptables").end()
    socket_path(tmp_path / "nobody.sock")

    async def scenario(top: Driver) -> None:
        text = await top.until("from the kernel alone", "no kpx daemon answers", "web:http", "0/0 NONE")
        assert "from the daemon" not in text
        await top.press("5")
        await top.until("nobody on this node tells of its syncs")

    drive(place, scenario)


def test_a_node_without_rules(place: Lab, socket_path: Named, tmp_path: Path) -> None:
    for program in ("iptables", "ip6tables"):
        within(place, program, "-t", "nat", "-F")
    within(place, "nft", "flush", "ruleset")
    socket_path(tmp_path / "nobody.sock")

    async def scenario(top: Driver) -> None:
        await top.until("the kernel holds no rules of a service proxy")

    drive(place, scenario)


def test_what_the_kernel_holds_otherwise_is_marked(
    place: Lab, node: Node, daemons: Daemons, socket_path: Named
) -> None:
    daemon = started(daemons, place, node, "nftables")
    socket_path(daemon.socket)
    daemon.end(signal.SIGKILL)  # it would mend it at once
    within(place, "nft", "delete", "element", "ip", "kpx", "service-ips", "{ 10.96.100.1 . tcp . 80 }")

    async def scenario(top: Driver) -> None:
        await top.until("rules of 1 differ", "DIFFER")
        await top.press("/", *"shop/web", "enter", "enter")
        await top.until("differs: ", "10.96.100.1")
        await top.press("t")
        await top.until("a packet is rejected before it goes to an endpoint", "=> REJECTED")

    drive(place, scenario, Options(manifests=str(node.manifests), node="node-a"))


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_the_rules_of_a_stock_kube_proxy(mode: str, place: Lab, socket_path: Named, tmp_path: Path) -> None:
    socket_path(tmp_path / "nobody.sock")
    within(place, "nft", "flush", "ruleset")
    if mode == "nftables":
        within(place, "nft", "-f", "-", stdin=(FIXTURE / "nftables.txt").read_text())
    else:
        with namespaces.entered(place.namespace(NODE)):
            rules = stock_rules("iptables-nft")
        within(place, "iptables-nft-restore", stdin=rules)

    async def scenario(top: Driver) -> None:
        text = await top.until(f"mode {mode}", "from the kernel alone", "web:http", "sticky")
        assert ("CONN/S" in text) == (mode == "iptables")  # kube-proxy's mode nftables counts none
        await top.press("/", *"shop/web", "enter", "enter", "enter")
        await top.until({"nftables": "ip kube-proxy service-ips: 10.96.100.1", "iptables": "-A KUBE-SVC-"}[mode])
        await top.press("3")
        await top.until("TCP  10.96.0.1:443")

    try:
        drive(place, scenario)
    finally:
        within(place, "nft", "flush", "ruleset")


def test_the_runbooks_and_a_fix_after_a_yes(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, "nftables").socket)
    within(place, "sysctl", "-w", "net.ipv4.ip_forward=0")

    def forwards() -> bool:
        return within(place, "sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"

    async def scenario(top: Driver) -> None:
        await top.until("web:http")
        await top.press("6", "/", *"fail.*not forwarded", "enter")
        await top.until("FAIL", "IPv4 packets are not forwarded")
        await top.press("home", "enter")
        await top.until("x makes this fix, after a question")
        await top.press("x")
        await top.until("Run this?", "# sysctl -w net.ipv4.ip_forward=1")
        await top.press("n")
        await top.until("x makes this fix, after a question")
        assert not forwards()
        await top.press("x", "y")
        await top.once(forwards, "the fix to be made")
        await top.until("done: ")

    try:
        drive(place, scenario)
    finally:
        within(place, "sysctl", "-w", "net.ipv4.ip_forward=1")
    assert "top-doctor" not in {thread.name for thread in threading.enumerate()}
