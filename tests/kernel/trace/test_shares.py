"""Each backend gets the share of new connections that the walk predicts: real ones, counted."""

from __future__ import annotations

import pytest

from kpx.lab import Lab
from kpx.net import Family
from tests.packets import shares
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant
from tests.packets.own import Kpx
from tests.packets.proxies import ProxyFactory, StockRules
from tests.packets.runner import configuration
from tests.packets.scenario import Object
from tests.packets.world import World

VARIANTS = [pytest.param(one, id=one.name) for one in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)]


def served(pods: list[str]) -> list[Object]:
    port = {"name": "http", "port": 80}
    return [
        {"kind": "Service", "metadata": {"name": "many"}, "spec": {"clusterIP": "10.96.100.30", "ports": [port]}},
        {"kind": "EndpointSlice", "of": "many", "ports": [{"name": "http", "port": 8080}], "endpoints": pods},
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rules_of_kube_proxy(variant: Variant, scenario_lab: Lab) -> None:
    assert counted(StockRules, variant, scenario_lab, [], "10.96.100.1") == {"a10", "b10"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_rules_of_kpx(variant: Variant, scenario_lab: Lab) -> None:
    pods = ["a10", "a12", "b10", "b11", "b12"]
    objects = World(Family.IPV4, scenario_lab.topology, served(pods)).objects
    assert counted(Kpx, variant, scenario_lab, objects, "10.96.100.30") == set(pods)


def counted(factory: ProxyFactory, variant: Variant, lab: Lab, objects: list[Object], address: str) -> set[str]:
    node = Node(lab)
    proxy = factory(node, variant, Family.IPV4)
    try:
        proxy.start(objects, configuration(variant.mode, {}))
        return shares.check(lab, Family.IPV4, address, 80)
    finally:
        proxy.stop()
        node.blank(variant)
