"""Every packet scenario, in every variant and family that it is for, on the real kernel, as traces predict it."""

from __future__ import annotations

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Variant
from tests.packets.own import Kpx
from tests.packets.plays import play, runs, stock_runs
from tests.packets.prediction import Predicted
from tests.packets.proxies import StockRules

VARIANTS = (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)


@pytest.mark.parametrize(("name", "variant", "family"), [*stock_runs(*VARIANTS)])
def test_stock_rules(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, StockRules, run=Predicted)


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(*VARIANTS)])
def test_kpx(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Kpx, run=Predicted)
