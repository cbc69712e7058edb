"""What an operator can get wrong: one sentence with the remedy, the right exit status, no traceback."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.apiserver import ApiServer
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.process import HEALTHZ, KPX, METRICS, run
from tests.unit.cluster.conftest import new_authority, write_kubeconfig
from tests.unit.cluster.objects import node as node_object

DAEMON = (*KPX, "daemon")
QUIET = ("--conntrack-max-per-core=0", "--conntrack-min=0")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--proxy-moed=ipvs", r"unknown flag: --proxy-moed, did you mean --proxy-mode\?"),
        ("start now", r'"kpx daemon" does not take any arguments, got \["start" "now"\]'),
        ("--proxy-mode=userspace", r".*must be iptables, ipvs, nftables or blank.*"),
        ("--iptables-masquerade-bit=40", r".*MasqueradeBit.*must be within the range \[0, 31\]"),
        ("--cluster-cidr=10.244.0.0/33", r".*ClusterCIDRs.*must be a valid CIDR"),
        ("--write-config-to=/nonexistent/config.yaml", r".*/nonexistent/config.yaml.*"),
        ("--config=/nonexistent/config.yaml", r"failed complete: open /nonexistent/config.yaml: no such file.*"),
        (
            "--kubeconfig=/nonexistent/config",
            r"kubeconfig /nonexistent/config cannot be read: No such file or directory; check --kubeconfig",
        ),
        ("--master=nonsense://host", r".*no address of an API server, which looks like https://HOST:PORT.*"),
        ("--manifests=/nonexistent", r"/nonexistent is not a folder: create it, or give --manifests one that is"),
        ("", r"unable to load in-cluster configuration, .* outside a pod, give --kubeconfig or --master"),
        (
            "--manifests={folder} --iptables-min-sync-period=2h --iptables-sync-period=3h",
            r"minSyncPeriod is 2h0m0s: it can be 1h at most",
        ),
        (
            "--manifests={folder} --detect-local-mode=NodeCIDR --hostname-override=elsewhere",
            r"timeout waiting for node \"elsewhere\" to exist: check that --hostname-override is the name of a Node",
        ),
    ],
)
def test_a_command_line(words: str, fault: str, tmp_path: Path) -> None:
    ended = run(*DAEMON, *words.format(folder=tmp_path).split())

    assert ended.status == 1
    assert re.fullmatch(fault, ended.fault)


def test_a_mode_that_is_not_there(tmp_path: Path) -> None:
    ended = run(*DAEMON, "--proxy-mode=ipvs", "--ipvs-scheduler=nonesuch", f"--manifests={tmp_path}")

    assert ended.status == 1
    assert re.fullmatch("can't use the IPVS proxier: the kernel has no IPVS.*; or use mode nftables", ended.fault)


def test_a_configuration_with_faults_is_told_with_their_lines(node: Node) -> None:
    node.config.write_text("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\niptables: 7\n")

    ended = run(*node.command)

    assert ended.status == 1
    assert re.fullmatch(rf"failed complete: failed to decode: {node.config}:3: iptables.*", ended.fault)


def test_a_kubeconfig_that_is_none(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("clusters: [")

    ended = run(*DAEMON, f"--kubeconfig={kubeconfig}")

    assert ended.status == 1
    assert re.fullmatch(rf"kubeconfig {kubeconfig} cannot be used: .*; check --kubeconfig", ended.fault)


@pytest.mark.parametrize("command", [["daemon"], ["cleanup"]])
def test_without_the_privilege(command: list[str]) -> None:
    ended = run("setpriv", "--bounding-set=-net_admin", *KPX, *command)

    assert ended.status == 1
    assert "CAP_NET_ADMIN" in ended.fault
    assert "run it with sudo, or privileged in a pod" in ended.fault


def test_without_iptables(tmp_path: Path) -> None:
    ended = run(*DAEMON, f"--manifests={tmp_path}", env={"PATH": str(tmp_path)})

    assert ended.status == 1
    assert re.fullmatch(r"iptables is not available.*: install the package iptables", ended.fault)


def test_a_sysctl_that_cannot_be_set(node: Node) -> None:
    """Flows are limited by the host, not by this network namespace."""
    node.configure(conntrack={"maxPerCore": 1, "min": 4096})

    ended = run(*node.command)

    assert ended.status == 1
    assert re.fullmatch(r"cannot set .*nf_conntrack_max to 4096: .*conntrack.maxPerCore: 0 leaves it.*", ended.fault)


@pytest.mark.parametrize(("port", "server"), [(HEALTHZ, "healthz server"), (METRICS, "metrics server")])
def test_a_port_that_is_taken_where_that_is_fatal(port: int, server: str, node: Node) -> None:
    node.configure(bindAddressHardFail=True)
    with socket.create_server(("127.0.0.1", port)):
        ended = run(*node.command)

    assert ended.status == 1
    assert re.fullmatch(rf"{server} failed: cannot listen on \S+:{port}: Address already in use", ended.fault)


def test_a_manifest_that_does_not_parse_is_named_and_the_others_count(node: Node, daemons: Daemons) -> None:
    (node.manifests / "05-broken.yaml").write_text("kind: Service\nmetadata: {name: [\n")

    daemon = daemons.start(*node.command).synced()

    daemon.logs(r"05-broken\.yaml\b.*line \d+.*stay as they were until it can be read")
    assert "10.96.100.1/32" in run("iptables-save", "-t", "nat").stdout


def test_an_api_server_that_is_down_is_waited_for(tmp_path: Path, daemons: Daemons) -> None:
    kubeconfig = write_kubeconfig(tmp_path, "http://127.0.0.1:1")

    daemon = daemons.start(*DAEMON, *QUIET, f"--kubeconfig={kubeconfig}")

    daemon.logs(
        r"cannot follow services \(attempt 2\): http://127.0.0.1:1 cannot be connected to .*"
        r"check that the API server runs there"
    )
    assert daemon.end() == 143
    assert run("iptables-save").stdout == ""


def test_a_certificate_that_is_not_the_clusters(tmp_path: Path, daemons: Daemons) -> None:
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    theirs, ours = new_authority(tmp_path / "theirs"), new_authority(tmp_path / "ours")
    with ApiServer(tls=theirs.server_context()) as server:
        server.put(node_object("node-a"))
        trusted = {"certificate-authority": str(ours.certificate)}
        kubeconfig = write_kubeconfig(tmp_path, server.url, cluster=trusted)
        daemon = daemons.start(*DAEMON, *QUIET, f"--kubeconfig={kubeconfig}", "--hostname-override=node-a")

        daemon.logs(rf"TLS to {server.url} fails .*check that the CA and the certificates are this cluster's")
        assert daemon.end() == 143
