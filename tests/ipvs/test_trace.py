"""Each real server gets the share of new connections that the walk predicts."""

from __future__ import annotations

from kpx.lab import Lab
from kpx.net import Family
from tests.ipvs.test_schedulers import ADDRESS, PODS, PORT, served
from tests.packets import shares


def test_shares(scenario_lab: Lab) -> None:
    with served(scenario_lab, "rr"):
        assert shares.check(scenario_lab, Family.IPV4, ADDRESS, PORT, 100) == {*PODS}
