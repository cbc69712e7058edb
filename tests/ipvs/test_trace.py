"""The static walk predicts what packets really do in mode ipvs."""

from __future__ import annotations

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPVS, Variant
from tests.packets.own import Kpx
from tests.packets.plays import play, runs
from tests.packets.prediction import Prediction


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(IPVS)])
def test_predictions(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Kpx, run=Prediction)
