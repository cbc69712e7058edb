"""`kpx migrate`, on nodes that kube-proxies and others have left their marks on."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpx.kernel.iptables.program import Variant
from tests.kernel.daemon.conftest import FIXTURE, Daemons, Node, stock_rules
from tests.kernel.daemon.process import HEALTHZ, KPX, UNPRIVILEGED, run


def migrate(*words: str) -> tuple[int, dict[str, Any]]:
    ended = run(*KPX, "migrate", *words, "-o", "json")
    return ended.status, json.loads(ended.stdout)


def found(plan: dict[str, Any], *ids: str) -> list[tuple[str, str]]:
    """The status and the words of some checks."""
    return [(one["status"], one["found"]) for one in plan["checks"] if one["id"] in ids]


def saved() -> str:
    """All rules of the node, without counters."""
    legacy = [run(f"{family}-legacy-save").stdout for family in ("iptables", "ip6tables")]
    rules = [line for text in legacy for line in text.splitlines() if line[:1] in "-*"]
    return "\n".join([run("nft", "--stateless", "list", "ruleset").stdout, *rules])


def restored(variant: Variant) -> None:
    for family in ("iptables", "ip6tables"):
        program = f"{family}-{variant.value}"
        subprocess.run([f"{program}-restore"], input=stock_rules(program), text=True, check=True)


def kube_proxy(folder: Path) -> subprocess.Popen[bytes]:
    program = folder / "kube-proxy"
    shutil.copy2("/bin/sleep", program)
    return subprocess.Popen([program, "1000"])


@pytest.fixture
def alive(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the test's network namespace that is called kube-proxy."""
    with kube_proxy(tmp_path) as process:
        yield process
        process.kill()


def test_an_empty_node_is_ready() -> None:
    status, plan = migrate()

    assert (status, plan["ready"], plan["from"], plan["to"]) == (0, True, "", "nftables")
    assert [one["id"] for one in plan["checks"] if one["status"] == "pass"] == ["kernel", "other-proxy"]
    assert plan["steps"][-1]["undo"]


@pytest.mark.parametrize("variant", list(Variant))
def test_a_node_of_kube_proxy_in_mode_iptables(variant: Variant, alive: subprocess.Popen[bytes]) -> None:
    restored(variant)
    before = saved()

    status, plan = migrate("nftables")

    assert (status, plan["from"], plan["to"]) == (0, "iptables", "nftables")
    assert found(plan, "proxy") == [
        (
            "info",
            f"kube-proxy[{alive.pid}] runs here in mode iptables: kpx waits for its end before it programs anything",
        )
    ]
    assert any("127.0.0.1" in one for one in plan["changes"])
    assert found(plan, "leftover") == []
    assert saved() == before


def test_a_node_of_kube_proxy_in_mode_nftables() -> None:
    run("nft", "-f", str(FIXTURE / "nftables.txt"))

    status, plan = migrate()

    assert (status, plan["from"], plan["to"]) == (0, "nftables", "nftables")
    assert plan["changes"] == ["The rules are kube-proxy's, but for what docs/deviations.md lists."]


def test_what_others_left_behind_is_told_and_who_serves_is_not_guessed() -> None:
    run("nft", "-f", str(FIXTURE / "nftables.txt"))
    restored(Variant.LEGACY)
    restored(Variant.NFT)

    _, plan = migrate("iptables")

    assert plan["from"] == ""
    leftovers = [words for _, words in found(plan, "leftover")]
    assert leftovers == [
        f"the table {family} kube-proxy: of mode nftables, and kpx removes it once its own are in"
        for family in ("ip", "ip6")
    ]
    assert [status for status, _ in found(plan, "variants")] == ["warn"]


def test_our_own_daemon_tells_its_mode(node: Node, daemons: Daemons) -> None:
    node.configure(mode="nftables")
    daemon = daemons.start(*node.command).synced().healthy()

    status, plan = migrate("iptables")

    assert (status, plan["from"], plan["to"]) == (0, "nftables", "iptables")
    assert f"[{daemon.process.pid}] runs here in mode nftables" in found(plan, "proxy")[0][1]
    assert found(plan, "port") == []


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cilium_host", "Cilium"),
        ("bpfin.cali", "Calico in eBPF mode"),
        ("kube-dummy-if", "kube-router's service proxy"),
    ],
)
def test_a_proxy_of_another_kind_is_in_the_way(device: str, name: str) -> None:
    run("ip", "link", "add", device, "type", "bridge")

    status, plan = migrate()

    assert (status, plan["ready"]) == (3, False)
    ((verdict, words),) = found(plan, "other-proxy")
    assert verdict == "fail"
    assert words.startswith(f"{name}: {device} is there")


def test_a_port_that_somebody_else_has_is_in_the_way() -> None:
    with socket.create_server(("127.0.0.1", HEALTHZ)):
        ended = run(*KPX, "migrate")

    assert ended.status == 3
    assert f"FAIL  port {HEALTHZ} is taken by " in ended.stdout
    assert "NOT READY" in ended.stdout


def test_the_text_fits_a_terminal() -> None:
    restored(Variant.NFT)
    run("iptables-nft", "-P", "FORWARD", "DROP")

    ended = run(*KPX, "migrate", "nftables")

    assert ended.status == 0, ended.stdout
    assert "WARN  the policy of FORWARD is DROP in iptables-nft, and" in ended.stdout
    prose = [line for line in ended.stdout.splitlines() if "kubectl" not in line]
    assert max(map(len, prose)) < 80
    assert "\x1b" not in ended.stdout


def test_mistakes_and_missing_rights() -> None:
    wrong = run(*KPX, "migrate", "ebpf")
    assert (wrong.status, wrong.stderr) == (
        2,
        "kpx migrate: there is no mode ebpf: it is one of iptables, ipvs, nftables\n",
    )
    unprivileged = run(*UNPRIVILEGED, *KPX, "migrate")
    assert unprivileged.status == 1
    assert unprivileged.stderr == "kpx migrate: reading the node's rules needs root (CAP_NET_ADMIN): run it with sudo\n"


def test_mode_ipvs_where_the_kernel_has_none() -> None:
    status, plan = migrate("ipvs")
    verdicts = {verdict for verdict, _ in found(plan, "modules")}
    if verdicts == {"pass"}:
        pytest.skip("this kernel has IPVS")
    assert (status, verdicts) == (3, {"fail"})
