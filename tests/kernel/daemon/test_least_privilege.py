"""The daemon as the manifests with least privilege run it: an init container, then next to nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kpx.kernel.iptables.program import Variant
from tests.deployment import least_capabilities
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.containers import confined
from tests.kernel.daemon.process import Daemon, eventually, run
from tests.unit.cluster.objects import endpoint_slice, service

# The kubelet sets the score of a pod that is system-node-critical.
_EXPECTED = "oom_score_adj was not set"


def refusals(daemon: Daemon) -> list[str]:
    """The lines in which the daemon says that it may not do something."""
    denied = re.compile("permission|permitted|read-only|denied", re.I)
    return [line for line in daemon.log.splitlines() if denied.search(line) and _EXPECTED not in line]


def serves(rules: Sequence[str], node: Node, daemons: Daemons, folder: Path) -> None:
    """It programs and follows a change without meeting a thing that it may not do; `rules` prints what there is."""
    initialised = run(*node.command, "--init-only")
    assert initialised.status == 0, initialised.stderr
    daemon = daemons.start(*confined([*node.command, "-v=4"], folder)).synced().healthy()
    assert "10.96.100.1" in run(*rules).stdout
    node.write("late.yaml", service("late", "10.96.100.77"), endpoint_slice("late", "10.244.21.10"))
    eventually(lambda: run(*rules).stdout, lambda now: "10.96.100.77" in now)
    assert refusals(daemon) == []
    assert daemon.socket.is_socket()


def use(variant: Variant) -> None:
    """Leave the hint by which the kubelet shows which iptables it uses."""
    run(f"iptables-{variant.value}", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")


@pytest.mark.parametrize("variant", list(Variant))
def test_mode_iptables(variant: Variant, node: Node, daemons: Daemons, tmp_path: Path) -> None:
    use(variant)
    serves([f"iptables-{variant.value}-save", "-t", "nat"], node, daemons, tmp_path)


def test_mode_nftables(node: Node, daemons: Daemons, tmp_path: Path) -> None:
    node.configure(mode="nftables", nftables={"minSyncPeriod": "1ms"})
    serves(["nft", "list", "table", "ip", "kpx"], node, daemons, tmp_path)


@pytest.mark.parametrize("missing", least_capabilities())
def test_no_capability_is_granted_for_nothing(missing: str, node: Node, daemons: Daemons, tmp_path: Path) -> None:
    use(Variant.LEGACY)
    kept = [one for one in least_capabilities() if one != missing]
    daemon = daemons.start(*confined(node.command, tmp_path, kept))
    assert daemon.ended() == 1
    assert "Error running ProxyServer" in daemon.log
