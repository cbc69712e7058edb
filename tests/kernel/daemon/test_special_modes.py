"""What the daemon's entries do besides serving, and how they end."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from kpx.config.flags import FLAGS
from kpx.kernel.iptables.program import Variant
from tests.kernel.daemon.conftest import FIXTURE, Daemons, Node, stock_rules
from tests.kernel.daemon.process import KPX, Ended, eventually, run

SCRIPT = str(Path(KPX[0]).with_name("kube-proxy"))
LOCALNET = "net.ipv4.conf.all.route_localnet"
FAMILIES = ("iptables", "ip6tables")


def saved() -> dict[str, str]:
    """What every iptables-save prints."""
    programs = [f"{family}-{variant.value}-save" for variant in Variant for family in FAMILIES]
    return {program: run(program).stdout for program in programs}


@pytest.mark.parametrize("command", [[*KPX, "daemon"], [SCRIPT]], ids=["kpx-daemon", "kube-proxy"])
def test_help_and_version(command: list[str]) -> None:
    told, version = run(*command, "--help"), run(*command, "--version")

    assert told.status == version.status == 0
    assert told.stdout.splitlines()[1] == f"  {'kube-proxy' if command == [SCRIPT] else 'kpx daemon'} [flags]"
    assert all(f"--{flag}" in told.stdout for flag in FLAGS)
    assert re.fullmatch(r"Kubernetes v1\.36\.\d+\+kpx\.\S+\n", version.stdout)


def test_the_script_kube_proxy_serves(node: Node, daemons: Daemons) -> None:
    daemon = daemons.start(SCRIPT, "--config", str(node.config), "--manifests", str(node.manifests)).synced()

    assert daemon.get("/proxyMode").body == "iptables"
    assert daemon.end() == 143


def test_the_effective_configuration_can_be_written_and_read(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"

    assert run(*KPX, "daemon", "--cluster-cidr=10.244.0.0/16", f"--write-config-to={first}").status == 0
    assert run(*KPX, "daemon", f"--config={first}", f"--write-config-to={second}").status == 0

    assert yaml.safe_load(first.read_text())["clusterCIDR"] == "10.244.0.0/16"
    assert first.read_text() == second.read_text()


def test_init_only_sets_what_needs_privilege_and_then_the_daemon_needs_little(node: Node, daemons: Daemons) -> None:
    ended = run(*node.command, "--init-only")

    assert (ended.status, ended.stdout) == (0, "")
    assert run("sysctl", "-n", LOCALNET).stdout == "1\n"
    assert "KUBE" not in "".join(saved().values())

    unprivileged = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all")
    daemon = daemons.start(*unprivileged, *node.command).synced()
    assert "10.96.100.1/32" in run("iptables-save", "-t", "nat").stdout
    assert daemon.end() == 143


def restored(program: str, text: str) -> None:
    subprocess.run([program, "--noflush"], input=text, text=True, check=True)


OTHERS = "*nat\n:OTHER - [0:0]\n-A POSTROUTING -j OTHER\n-A OTHER -s 192.0.2.1 -j ACCEPT\nCOMMIT\n"


@pytest.mark.parametrize("command", [["cleanup"], ["daemon", "--cleanup"]], ids=" ".join)
def test_cleanup_leaves_nothing_of_any_variant(command: list[str]) -> None:
    """What kube-proxy left, in every mode, variant and family, goes; what others have stays."""
    for variant in Variant:
        restored(f"iptables-{variant.value}-restore", OTHERS)
    before = {program: _rules(text) for program, text in saved().items()}
    for variant in Variant:
        for family in FAMILIES:
            program = f"{family}-{variant.value}"
            restored(f"{program}-restore", stock_rules(program))
    run("nft", "-f", str(FIXTURE / "nftables.txt"))

    ended = run(*KPX, *command)

    assert ended.status == 0, ended.stderr
    after = {program: _rules(text) for program, text in saved().items()}
    assert "KUBE" not in str(after)
    assert after == before
    assert "kube-proxy" not in run("nft", "list", "tables").stdout


def test_cleanup_after_our_own_daemon(node: Node, daemons: Daemons) -> None:
    daemons.start(*node.command).synced().end()
    assert "KUBE-SVC" in str(saved())

    assert run(*KPX, "cleanup").status == 0

    assert "KUBE" not in str(saved())


IPVS_RULES = FIXTURE.parent / "ipvs-example" / "rules.txt"
JUMPS = """*filter
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL
COMMIT
"""


def load_ipvs_rules(variant: Variant) -> None:
    """The rules that kube-proxy has in mode ipvs, with the sets that they look into."""
    rules = IPVS_RULES.read_text()
    for name, directions in set(re.findall(r"--match-set (\S+) (\S+)", rules)):
        kind = {1: "hash:ip", 2: "hash:ip,port", 3: "hash:ip,port,ip"}[directions.count(",") + 1]
        assert run("ipset", "-exist", "create", name, kind).status == 0
    for text in (rules, JUMPS):
        restored(f"iptables-{variant.value}-restore", text)


@pytest.mark.parametrize("variant", list(Variant))
def test_the_chains_of_mode_ipvs_go_when_mode_nftables_takes_over(
    variant: Variant, node: Node, daemons: Daemons
) -> None:
    restored(f"iptables-{variant.value}-restore", OTHERS)
    load_ipvs_rules(variant)
    node.configure(mode="nftables")
    daemons.start(*node.command).synced()

    def rules() -> str:
        return run(f"iptables-{variant.value}-save").stdout

    eventually(rules, lambda text: "KUBE-" not in text, "chains of mode ipvs stay")
    assert "-A OTHER -s 192.0.2.1/32 -j ACCEPT" in rules()


def test_cleanup_where_there_is_nothing() -> None:
    assert _told(run(*KPX, "cleanup")) == (0, "")
    assert not any(saved().values())


@pytest.mark.parametrize("variant", list(Variant))
def test_cleanup_says_what_it_cannot_remove(variant: Variant) -> None:
    """A rule of somebody else leads to one of the chains: that one stays, and only that one."""
    chains = "".join(f":KUBE-SVC-{name} - [0:0]\n" for name in ("AAAA", "BBBB", "CCCC"))
    restored(f"iptables-{variant.value}-restore", f"*nat\n{chains}-A POSTROUTING -j KUBE-SVC-BBBB\nCOMMIT\n")

    ended = run(*KPX, "cleanup")

    assert ended.status == 1
    assert ended.fault.startswith("encountered an error while tearing down rules: ")
    assert ended.fault.endswith("still there: KUBE-SVC-BBBB (nat)")
    assert re.findall("^:(KUBE.*) -", "".join(saved().values()), re.MULTILINE) == ["KUBE-SVC-BBBB"]


def _told(ended: Ended) -> tuple[int, str]:
    return ended.status, ended.stderr


def _rules(text: str) -> list[str]:
    """All rules and all chains that somebody made."""
    return [line.partition(" [")[0] for line in text.splitlines() if line.startswith("-A") or " - [" in line]
