"""Every packet scenario, in every variant and family that it is for, on the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant
from tests.packets.own import Kpx
from tests.packets.proxies import ProxyFactory, StockRules
from tests.packets.runner import Run
from tests.packets.scenario import load, resolve

SCENARIOS = load()


def stock_runs() -> Iterator[object]:
    for variant in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES):
        for name, scenario in SCENARIOS.items():
            for family in scenario.stock:
                if variant.mode in scenario.modes:
                    yield pytest.param(name, variant, Family(family), id=f"{variant.name}-{family}-{name}")


def play(name: str, variant: Variant, family: Family, lab: Lab, factory: ProxyFactory) -> None:
    node = Node(lab)
    node.blank(variant)
    try:
        Run(resolve(name, SCENARIOS[name], variant.mode, family), variant, lab, factory(node, variant, family)).run()
    finally:
        node.blank(variant)


@pytest.mark.parametrize(("name", "variant", "family"), list(stock_runs()))
def test_stock_rules(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, StockRules)


def kpx_runs() -> Iterator[object]:
    for variant in (IPTABLES_NFT, IPTABLES_LEGACY):
        for name, scenario in SCENARIOS.items():
            for family in scenario.families:
                if variant.mode in scenario.modes:
                    yield pytest.param(name, variant, Family(family), id=f"{variant.name}-{family}-{name}")


@pytest.mark.parametrize(("name", "variant", "family"), [*kpx_runs()])
def test_kpx(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Kpx)
