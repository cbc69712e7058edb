"""`kpx migrate` on a node in mode ipvs, whose kernel has no nftables for IP."""

from __future__ import annotations

import json

from tests.kernel.daemon.conftest import Daemons, Node, daemons, node
from tests.kernel.daemon.process import KPX, run

__all__ = ["daemons", "node"]


def test_a_node_in_mode_ipvs(node: Node, daemons: Daemons) -> None:
    node.configure(mode="ipvs", ipvs={"minSyncPeriod": "1ms"})
    daemons.start(*node.command).synced().end()

    stay, go = (run(*KPX, "migrate", mode, "-o", "json") for mode in ("ipvs", "nftables"))

    assert (stay.status, go.status) == (0, 3)
    plan = json.loads(stay.stdout)
    checks = {one["id"]: one["status"] for one in plan["checks"]}
    assert (plan["from"], checks["modules"], checks["deprecated"]) == ("ipvs", "pass", "warn")
    plan = json.loads(go.stdout)
    assert [one["status"] for one in plan["checks"] if one["id"] == "kernel"] == ["fail", "warn"]
    assert any("kube-ipvs0" in one for one in plan["changes"])
