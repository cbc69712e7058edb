"""The scenarios can fail: without any one kind of rule that kpx writes, one of those that cover it does."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kpx.kernel.iptables.program import Iptables
from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_NFT
from tests.packets.own import Kpx
from tests.packets.plays import SCENARIOS, play
from tests.packets.rulekinds import kinds, without
from tests.packets.runner import Unexpected

# What no packet can show: a rule that leads nowhere, and one that only counts what the next rule does.
SILENT = {
    "nat KUBE-FW => nowhere",
    "nat KUBE-NODEPORTS -d --dport => KUBE-EXT",
}
COVERED = {kind: name for name, scenario in SCENARIOS.items() for kind in scenario.covers}


@pytest.mark.parametrize("left_out", sorted(COVERED))
def test_without_a_kind_of_rule_its_scenario_fails(
    left_out: str, scenario_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Iptables.restore
    monkeypatch.setattr(Iptables, "restore", lambda self, lines: restore(self, without(lines, left_out)))

    with pytest.raises(Unexpected):
        play(COVERED[left_out], IPTABLES_NFT, Family.IPV4, scenario_lab, Kpx, patience=0.5)


def test_every_kind_of_rule_is_covered(scenario_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    written: set[str] = set()
    restore = Iptables.restore

    def noting(self: Iptables, lines: Iterable[str]) -> None:
        lines = list(lines)
        written.update(kind for kind, _ in kinds(lines) if kind)
        restore(self, lines)

    monkeypatch.setattr(Iptables, "restore", noting)
    for name, scenario in SCENARIOS.items():
        if "iptables" in scenario.modes and "IPv4" in scenario.families and scenario.covers:
            play(name, IPTABLES_NFT, Family.IPV4, scenario_lab, Kpx)

    assert written - SILENT == COVERED.keys() - SILENT
