"""`kpx trace --if` with mode ipvs, from and to it: what it predicts is what packets do in the scenarios."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import IPTABLES_LEGACY, IPVS, Node, Variant
from tests.packets.plays import play, runs
from tests.packets.supposition import Nobody, Supposition, beside

# A guest is slow.
SOME = (
    "traffic-policies/internal-traffic-stays-on-the-node",
    "load-balancers/only-allowed-sources-are-let-in",
    "no-endpoints/connections-are-refused",
)


def four(variant: Variant, *names: str) -> list[ParameterSet]:
    """The runs of IPv4."""
    return [one for one in runs(variant, of=names) if one.values[2] is Family.IPV4]


@pytest.mark.parametrize(("name", "variant", "family"), four(IPVS, *SOME))
def test_on_a_node_without_rules(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    play(name, variant, family, scenario_lab, Nobody, run=Supposition)


@pytest.mark.parametrize(("name", "variant", "family"), four(IPTABLES_LEGACY, SOME[-1]))
def test_in_place_of_virtual_servers(name: str, variant: Variant, family: Family, scenario_lab: Lab) -> None:
    try:
        play(name, variant, family, scenario_lab, beside(IPVS), run=Supposition)
    finally:
        Node(scenario_lab).blank(IPVS)
