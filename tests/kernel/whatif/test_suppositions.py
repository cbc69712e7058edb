"""`kpx trace --if` predicts what packets do under rules that are not there, in every mode."""

from __future__ import annotations

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Variant
from tests.packets.plays import SCENARIOS, play, runs
from tests.packets.supposition import Nobody, Supposition, beside

POLICIES = [name for name in SCENARIOS if name.startswith(("traffic-policies/", "load-balancers/", "node-ports/"))]
OTHERS = [name for name in SCENARIOS if name.startswith(("traffic-policies/", "no-endpoints/"))]


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(IPTABLES_NFT, NFTABLES, of=POLICIES)])
def test_on_a_node_without_rules(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Nobody, run=Supposition)


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(IPTABLES_NFT, of=OTHERS)])
def test_in_place_of_rules_of_nftables(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, beside(NFTABLES), run=Supposition)


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(NFTABLES, of=OTHERS)])
def test_in_place_of_rules_of_iptables(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, beside(IPTABLES_NFT), run=Supposition)


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(IPTABLES_LEGACY, of=OTHERS[:6])])
def test_in_place_of_the_same(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, beside(IPTABLES_LEGACY), run=Supposition)
