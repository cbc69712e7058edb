"""Every packet scenario, in every variant and family that it is for, on the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant
from tests.packets.own import Kpx
from tests.packets.proxies import ProxyFactory, StockRules
from tests.packets.runner import PATIENCE_SECONDS, Run
from tests.packets.scenario import load, resolve

SCENARIOS = load()


def stock_runs() -> Iterator[ParameterSet]:
    for variant in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES):
        for name, scenario in SCENARIOS.items():
            for family in scenario.stock:
                if variant.mode in scenario.modes:
                    yield pytest.param(name, variant, Family(family), id=f"{variant.name}-{family}-{name}")


def kpx_runs() -> Iterator[ParameterSet]:
    for variant in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES):
        for name, scenario in SCENARIOS.items():
            for family in scenario.families:
                if variant.mode in scenario.modes:
                    yield pytest.param(name, variant, Family(family), id=f"{variant.name}-{family}-{name}")


def play(
    name: str, variant: Variant, family: Family, lab: Lab, factory: ProxyFactory, patience: float = PATIENCE_SECONDS
) -> None:
    node = Node(lab)
    node.blank(variant)
    try:
        case = resolve(name, SCENARIOS[name], variant.mode, family)
        Run(case, variant, lab, factory(node, variant, family), patience).run()
    finally:
        node.blank(variant)


@pytest.mark.parametrize(("name", "variant", "family"), [*stock_runs()])
def test_stock_rules(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, StockRules)


@pytest.mark.parametrize(("name", "variant", "family"), [*kpx_runs()])
def test_kpx(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Kpx)
