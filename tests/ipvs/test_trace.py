"""The static walk predicts what packets really do in mode ipvs."""

from __future__ import annotations

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.ipvs.test_schedulers import ADDRESS, PODS, PORT, served
from tests.packets import shares
from tests.packets.node import IPVS, Variant
from tests.packets.own import Kpx
from tests.packets.plays import play, runs
from tests.packets.prediction import Prediction


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(IPVS)])
def test_predictions(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Kpx, run=Prediction)


def test_shares(scenario_lab: Lab) -> None:
    with served(scenario_lab, "rr"):
        assert shares.check(scenario_lab, Family.IPV4, ADDRESS, PORT, 100) == {*PODS}
