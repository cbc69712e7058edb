"""The packet scenarios in a guest: all of them in mode ipvs, and a few in a mode that the host's kernel runs as well.

Those few tell the guest's own faults from a mode's. All go as traces predict it.
"""

from __future__ import annotations

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_LEGACY, IPVS, Variant
from tests.packets.own import Kpx
from tests.packets.plays import play, runs
from tests.packets.prediction import Predicted

KNOWN = (
    "cluster-ip/balances-over-all-ready-endpoints",
    "cluster-ip/lets-a-pod-reach-itself",
    "node-ports/every-address-of-the-node-answers",
    "forwarding/a-firewall-that-drops-what-it-forwards-lets-masqueraded-traffic-pass",
    "load-balancers/only-allowed-sources-are-let-in",
    "udp-flows/follow-their-endpoints",
)


@pytest.mark.parametrize(("name", "variant", "family"), [*runs(IPTABLES_LEGACY, of=KNOWN), *runs(IPVS)])
def test_kpx(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Kpx, run=Predicted)
