"""Mode ipvs as the manifests with least privilege run it."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.daemon.conftest import Daemons, Node, daemons, node
from tests.kernel.daemon.test_least_privilege import serves

__all__ = ["daemons", "node"]


def test_mode_ipvs(node: Node, daemons: Daemons, tmp_path: Path) -> None:
    node.configure(mode="ipvs", ipvs={"minSyncPeriod": "1ms"})
    serves(["ipvsadm", "-Ln"], node, daemons, tmp_path)
