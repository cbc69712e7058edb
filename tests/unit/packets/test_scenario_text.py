"""The text of scenarios: what it means, and that a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from kpx.lab.topology import Topology
from kpx.net import Family
from tests.packets.addresses import in_ipv6
from tests.packets.scenario import Scenario, Send, load, resolve
from tests.packets.world import World

TOPOLOGY = Topology((10, 11), (10,))
SERVICE = {
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"clusterIP": "10.96.100.20", "ports": [{"port": 80}]},
}


def written(text: str) -> Scenario:
    return msgspec.convert(yaml.safe_load(text), Scenario)


def sends(scenario: Scenario, mode: str, family: Family) -> tuple[Send, ...]:
    return resolve("a", scenario, mode, family).steps[0].send


@pytest.mark.parametrize(
    ("ipv4", "ipv6"),
    [
        ("10.244.21.18", "fd00:244:0:21::18"),
        ("10.199.0.21", "fd00:199::21"),
        ("10.96.100.12", "fd00:96::100c"),
        ("10.96.0.1", "fd00:96::1"),
        ("tcp://10.96.100.1:80", "tcp://fd00:96::1001:80"),
        (" 203.0.113.7/32 ", " 2001:db8:203::7/128 "),
        ("203.0.113.0/24", "2001:db8:203::/64"),
        ("10.244.0.0/16,fd00:244::/48", "fd00:244::/48,fd00:244::/48"),
        ("v1.36.2", "v1.36.2"),
        ("fd00:96::1001", "fd00:96::1001"),
    ],
)
def test_addresses_have_ipv6_twins(ipv4: str, ipv6: str) -> None:
    assert in_ipv6({"key": [ipv4, 7]}) == {"key": [ipv6, 7]}


@pytest.mark.parametrize("unknown", ["8.8.8.8", "10.244.0.0/17"])
def test_an_address_without_a_twin_is_told(unknown: str) -> None:
    with pytest.raises(ValueError, match="has no IPv6 twin"):
        in_ipv6(unknown)


def test_exceptions_hold_where_they_fit() -> None:
    scenario = written(
        """
        scenario: a
        steps:
        - send:
          - from: a10
            to: tcp://10.96.100.1:80
            answers: [a10]
            sees: node
            but: {nftables: {fails: refused}, ipvs: skip, iptables IPv6: {answers: [b10]}}
        """
    )
    (plain,) = sends(scenario, "iptables", Family.IPV4)
    (refused,) = sends(scenario, "nftables", Family.IPV6)
    (other,) = sends(scenario, "iptables", Family.IPV6)

    assert (plain.answers, plain.sees, plain.fails) == (("a10",), "node", None)
    assert (refused.answers, refused.sees, refused.fails) == ((), None, "refused")
    assert (other.to, other.answers, other.sees) == ("tcp://fd00:96::1001:80", ("b10",), None)
    assert resolve("a", scenario, "ipvs", Family.IPV4).steps == ()


@pytest.mark.parametrize(
    "mistake",
    [
        "steps: [{send: [{from: a10, to: tcp, answer: [a10]}]}]",
        "steps: [{send: [{from: a10, to: tcp, fails: often}]}]",
        "steps: [{wait: 1, node: ls}]",
        "steps: [{}]",
        "step: []",
    ],
)
def test_mistakes_are_told(mistake: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(f"scenario: a\n{mistake}\n")
    with pytest.raises(ValueError, match=r"bad\.yaml, scenario 'a'"):
        load(tmp_path)


def test_every_scenario_can_be_resolved() -> None:
    for name, scenario in load().items():
        for mode in scenario.modes:
            for family in scenario.families:
                World(
                    Family(family),
                    Topology(tuple(range(10, 20)), tuple(range(10, 21))),
                    resolve(name, scenario, mode, Family(family)).objects,
                )


def test_short_forms_are_written_out() -> None:
    short = {"kind": "EndpointSlice", "of": "web", "endpoints": ["a10", {"pod": "b10", "conditions": {"ready": False}}]}
    world = World(Family.IPV6, TOPOLOGY, [SERVICE, short])
    service, endpoint_slice = world.objects[-2:]

    assert service["apiVersion"] == "v1"
    assert service["metadata"]["namespace"] == "shop"
    assert service["spec"]["clusterIP"] == "fd00:96::1014"
    assert endpoint_slice["metadata"]["labels"] == {"kubernetes.io/service-name": "web"}
    assert endpoint_slice["addressType"] == "IPv6"
    assert endpoint_slice["endpoints"] == [
        {"addresses": ["fd00:244:0:21::10"], "nodeName": "node-a"},
        {"addresses": ["fd00:244:0:22::10"], "nodeName": "node-b", "conditions": {"ready": False}},
    ]


def test_dual_stack_objects_stay_as_they_are() -> None:
    spec = {
        "clusterIP": "10.96.100.12",
        "clusterIPs": ["10.96.100.12", "fd00:96::100c"],
        "ipFamilies": ["IPv4", "IPv6"],
    }
    world = World(Family.IPV6, TOPOLOGY, [{"kind": "Service", "metadata": {"name": "dual"}, "spec": spec}])

    assert world.objects[-1]["spec"] == spec


def test_steps_change_objects() -> None:
    world = World(Family.IPV4, TOPOLOGY, [SERVICE])
    world.patch({"Service/web": {"spec": {"type": "NodePort", "ports": None}}})
    assert world.objects[-1]["spec"] == {"clusterIP": "10.96.100.20", "type": "NodePort"}

    world.delete(("Service/shop/web",))
    assert [item["kind"] for item in world.objects] == ["Node", "ServiceCIDR"]
