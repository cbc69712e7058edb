"""Planted differences are named for the Service that they hit, in every mode and whoever made the rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpx.diff import command
from kpx.diff.difference import Sort
from kpx.diff.facts import Aspect
from kpx.lab import Lab, namespaces
from kpx.net import Family
from kpx.tools.cluster import Options
from tests.packets.compared import Programmed, programmed
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant
from tests.packets.own import Kpx
from tests.packets.proxies import ProxyFactory, StockRules

MAKERS: dict[str, ProxyFactory] = {"stock": StockRules, "kpx": Kpx}
EVERY = [
    pytest.param(variant, maker, id=f"{variant.name}-{maker}")
    for variant in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)
    for maker in MAKERS
]
IPTABLES = EVERY[:4]
WEB = "67NZLRHBNDSAWJRO"  # the hash of shop/web:http


@pytest.fixture
def here(variant: Variant, maker: str, scenario_lab: Lab, tmp_path: Path) -> Iterator[Programmed]:
    with programmed(scenario_lab, variant, MAKERS[maker], tmp_path) as node:
        yield node


def web(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """An object of shop/web."""
    names = {"Service": "web", "EndpointSlice": "web-1"}
    return next(one for one in objects if one["kind"] == kind and one["metadata"]["name"] == names[kind])


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_nothing_differs(here: Programmed) -> None:
    assert here.texts() == []


# What the cluster wants has changed, and the rules have not.


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_an_endpoint_has_come_and_one_is_gone(here: Programmed) -> None:
    def change(objects: list[dict[str, Any]]) -> None:
        web(objects, "EndpointSlice")["endpoints"][0]["addresses"] = ["10.244.21.99"]

    here.want(change)

    hit = {(str(one.port), one.sort, one.subject.partition(" ")[0]) for one in here.differences()}
    assert {one for one in hit if ":8080" in one[2]} >= {
        ("shop/web:http", Sort.MISSING, "10.244.21.99:8080"),
        ("shop/web:http", Sort.EXTRA, "10.244.21.10:8080"),
    }
    assert {name for name, _, _ in hit} == {"shop/web:http"}


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_a_service_without_endpoints_is_not_refused(here: Programmed) -> None:
    here.want(lambda objects: objects.remove(web(objects, "EndpointSlice")))

    found = {(str(one.port), one.sort, one.aspect) for one in here.differences()}
    assert ("shop/web:http", Sort.MISSING, Aspect.REFUSAL) in found
    assert ("shop/web:http", Sort.EXTRA, Aspect.ADDRESS) in found


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_session_affinity(here: Programmed) -> None:
    def change(objects: list[dict[str, Any]]) -> None:
        web(objects, "Service")["spec"]["sessionAffinity"] = "ClientIP"
        sticky = next(one for one in objects if one["metadata"]["name"] == "sticky")
        sticky["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] = 900

    here.want(change)

    found = {(str(one.port), one.sort, one.held, one.wanted) for one in here.differences()}
    assert ("shop/sticky", Sort.DIFFERENT, "for 600 s", "for 900 s") in found
    assert {name for name, *_ in found} == {"shop/sticky", "shop/web:http"}


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_a_traffic_policy(here: Programmed) -> None:
    def change(objects: list[dict[str, Any]]) -> None:
        front = next(one for one in objects if one["metadata"]["name"] == "front")
        front["spec"]["externalTrafficPolicy"] = "Local"

    here.want(change)

    found = here.differences()
    assert {str(one.port) for one in found} == {"shop/front:http"}
    assert {Aspect.POLICY, Aspect.ADDRESS} & {one.aspect for one in found}


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_source_ranges(here: Programmed) -> None:
    def change(objects: list[dict[str, Any]]) -> None:
        edge = next(one for one in objects if one["metadata"]["name"] == "edge")
        edge["spec"]["loadBalancerSourceRanges"] = ["203.0.113.0/24"]

    here.want(change)

    assert {(str(one.port), one.aspect) for one in here.differences()} == {("shop/edge:https", Aspect.SOURCES)}


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_a_service_is_gone(here: Programmed) -> None:
    here.want(lambda objects: objects.remove(web(objects, "Service")))

    found = here.differences()
    assert {one.sort for one in found} == {Sort.EXTRA}
    assert "10.96.100.1:80/TCP" in {one.subject for one in found}
    assert {str(one.port) for one in found if one.port} <= {"shop/web:http", "shop/web"}


# Somebody has changed the rules.


@pytest.mark.parametrize(("variant", "maker"), IPTABLES)
def test_a_line_of_the_shared_chain_is_gone(here: Programmed, variant: Variant) -> None:
    program = variant.iptables(Family.IPV4)
    lines = here.run(program, "-t", "nat", "-S", "KUBE-SERVICES").splitlines()
    (number,) = (number for number, line in enumerate(lines) if "-d 10.96.100.1/32 " in line)
    here.run(program, "-t", "nat", "-D", "KUBE-SERVICES", str(number))

    (one,) = here.differences()

    assert (str(one.port), one.aspect) == ("shop/web:http", Aspect.ADDRESS)
    assert one.text == "10.96.100.1:80/TCP is not served: nothing leads from it to all endpoints"
    assert one.where == "-t nat KUBE-SERVICES"


@pytest.mark.parametrize(("variant", "maker"), IPTABLES)
def test_the_rule_of_an_endpoint_is_gone(here: Programmed, variant: Variant) -> None:
    here.run(variant.iptables(Family.IPV4), "-t", "nat", "-D", f"KUBE-SVC-{WEB}", "3")

    assert here.texts() == ["shop/web:http: endpoint 10.244.22.10:8080 gets no connections"]


@pytest.mark.parametrize(("variant", "maker"), IPTABLES)
def test_the_rule_that_marks_is_gone(here: Programmed, variant: Variant) -> None:
    here.run(variant.iptables(Family.IPV4), "-t", "nat", "-D", f"KUBE-SVC-{WEB}", "1")

    (one,) = here.differences()
    assert (str(one.port), one.sort, one.aspect) == ("shop/web:http", Sort.MISSING, Aspect.MASQUERADE)


@pytest.mark.parametrize(("variant", "maker"), IPTABLES)
def test_a_rule_of_somebody_in_a_chain_of_a_service(here: Programmed, variant: Variant) -> None:
    words = f"-t nat -I KUBE-SVC-{WEB} -s 10.244.21.11/32 -j RETURN"
    here.run(variant.iptables(Family.IPV4), *words.split())

    (one,) = here.differences()
    assert (str(one.port), one.sort, one.aspect) == ("shop/web:http", Sort.EXTRA, Aspect.RULE)
    assert "-s 10.244.21.11/32 -j RETURN" in one.text


@pytest.mark.parametrize(("variant", "maker"), IPTABLES)
@pytest.mark.parametrize(
    ("chain", "to"), [("PREROUTING", "KUBE-SERVICES"), ("OUTPUT", "KUBE-SERVICES"), ("POSTROUTING", "KUBE-POSTROUTING")]
)
def test_a_jump_is_gone_from_a_built_in_chain(here: Programmed, variant: Variant, chain: str, to: str) -> None:
    here.run(variant.iptables(Family.IPV4), "-t", "nat", "-F", chain)

    (one,) = here.differences()
    assert (one.port, one.sort, one.aspect) == (None, Sort.MISSING, Aspect.BASE)
    assert one.text.startswith(f"the jump from {chain} to {to} (table nat) is missing: ")


@pytest.mark.parametrize(("variant", "maker"), EVERY[4:])
def test_an_element_is_gone(here: Programmed, maker: str) -> None:
    table = {"stock": "kube-proxy", "kpx": "kpx"}[maker]
    here.run("nft", f"delete element ip {table} service-ips {{ 10.96.100.1 . tcp . 80 }}")

    (one,) = here.differences()
    assert (str(one.port), one.sort, one.aspect) == ("shop/web:http", Sort.MISSING, Aspect.ADDRESS)
    assert one.where == f"map ip {table} service-ips"


@pytest.mark.parametrize(("variant", "maker"), EVERY[4:])
def test_a_base_chain_is_empty(here: Programmed, maker: str) -> None:
    here.run("nft", f"flush chain ip { ({'stock': 'kube-proxy', 'kpx': 'kpx'}[maker]) } nat-prerouting")

    assert here.texts() == [
        "all: the rule 'jump services' in nat-prerouting is missing: no packet that comes in reaches a Service"
    ]


@pytest.mark.parametrize(("variant", "maker"), EVERY[4:])
def test_a_table_sleeps(here: Programmed, maker: str) -> None:
    here.run("nft", f"add table ip { ({'stock': 'kube-proxy', 'kpx': 'kpx'}[maker]) } {{ flags dormant; }}")

    found = here.texts()
    assert found
    assert all("not asked, since the table is dormant" in text for text in found)


@pytest.mark.parametrize(("variant", "maker"), [EVERY[4]])
def test_a_chain_of_a_stock_service_is_empty(here: Programmed) -> None:
    here.run("nft", "flush chain ip kube-proxy service-KHN6ECMT-shop/web/tcp/http")

    assert here.texts() == [
        "shop/web:http: endpoint 10.244.21.10:8080 gets no connections",
        "shop/web:http: endpoint 10.244.22.10:8080 gets no connections",
    ]


@pytest.mark.parametrize(("variant", "maker"), [EVERY[5]])
def test_a_chain_that_services_share_is_empty(here: Programmed) -> None:
    here.run("nft", "flush chain ip kpx np-lb-2")

    found = here.differences()
    assert {str(one.port) for one in found} == {"shop/edge:https", "shop/front:http"}
    assert {one.where for one in found} == {"chain ip kpx np-lb-2"}


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_all_rules_are_gone(here: Programmed, variant: Variant) -> None:
    if variant.flavour == "legacy":
        for table in ("nat", "filter"):
            here.run("iptables-legacy", "-t", table, "-F")
            here.run("iptables-legacy", "-t", table, "-X")
    else:
        here.run("nft", "flush ruleset")

    found = here.texts()
    assert "all: the kernel holds no IPv4 rules: no Service is served" in found


# Rules of others.


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_others_translate_before_the_proxy(here: Programmed) -> None:
    here.run("nft", "add table ip early; add chain ip early pre { type nat hook prerouting priority -101; }")
    here.run("nft", "add rule ip early pre ip daddr 10.96.100.1 tcp dport 80 dnat to 10.244.22.19:8080")

    (one,) = here.differences()

    assert (str(one.port), one.sort, one.aspect) == ("shop/web:http", Sort.FOREIGN, Aspect.TRANSLATED)
    assert one.text == "packets from pods are sent to 10.244.22.19:8080 by a rule of somebody else"
    assert one.where == "table ip early, chain pre"


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_others_drop_what_is_forwarded(here: Programmed) -> None:
    here.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 0; }")
    here.run("nft", "add rule inet fw pass ip daddr 10.244.22.10 tcp dport 8080 drop")

    (one,) = here.differences()

    assert (str(one.port), one.aspect) == ("shop/web:http", Aspect.DROPPED)
    assert "on the way to 10.244.22.10:8080" in one.text


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_others_drop_what_goes_to_one_pod(here: Programmed) -> None:
    here.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 0; }")
    here.run("nft", "add rule inet fw pass oifname pod-a15 drop")

    found = here.differences()

    assert {(str(one.port), one.aspect) for one in found} == {("shop/cache:redis", Aspect.DROPPED)}


@pytest.mark.parametrize(("variant", "maker"), EVERY)
@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        ("type ipv4_addr; elements = { 10.96.100.8, 192.0.2.99 };", "ip daddr @bad drop"),
        (
            "type ipv4_addr; flags interval; elements = { 10.96.100.8/31, 192.0.2.0/28 };",
            "ip daddr @bad tcp dport 6379 drop",
        ),
        ("type inet_service; elements = { 6379, 22 };", "tcp dport @bad drop"),
    ],
)
def test_others_drop_what_is_in_a_set(here: Programmed, declared: str, rule: str) -> None:
    here.run("nft", f"add table inet fw; add set inet fw bad {{ {declared} }}")
    here.run("nft", "add chain inet fw early { type filter hook prerouting priority -150; }")
    here.run("nft", f"add rule inet fw early {rule}")

    assert {(str(one.port), one.aspect) for one in here.differences()} == {("shop/cache:redis", Aspect.DROPPED)}


@pytest.mark.parametrize(("variant", "maker"), IPTABLES)
def test_others_drop_in_forward(here: Programmed, variant: Variant) -> None:
    here.run(variant.iptables(Family.IPV4), *["-I", "FORWARD", "-p", "udp", "-j", "DROP"])

    (one,) = here.differences()

    assert (str(one.port), one.aspect, one.where) == ("shop/dns:dns", Aspect.DROPPED, "table filter, chain FORWARD")


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_others_reject_what_the_node_sends(here: Programmed) -> None:
    here.run("nft", "add table ip fw; add chain ip fw out { type filter hook output priority 5; }")
    here.run("nft", "add rule ip fw out tcp dport 6379 reject")

    (one,) = here.differences()

    assert (str(one.port), one.aspect) == ("shop/cache:redis", Aspect.REJECTED)
    assert one.text == "packets from this node are rejected by a rule of somebody else"


@pytest.mark.parametrize(("variant", "maker"), EVERY)
def test_others_that_do_no_harm_are_not_named(here: Programmed) -> None:
    here.run("nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 0; }")
    here.run("nft", "add rule inet fw pass ip daddr 192.168.7.0/24 drop")
    here.run("nft", "add rule inet fw pass tcp dport 22 reject")

    assert here.texts() == []


# The command.


@pytest.mark.parametrize(("variant", "maker"), [EVERY[0]])
def test_the_command(here: Programmed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(manifests=str(tmp_path), node="node-a")
    assert command.run(command.Wish(), options) == 0
    assert "no difference in 16 service ports" in capsys.readouterr().out
    here.run("iptables-nft", "-t", "nat", "-D", f"KUBE-SVC-{WEB}", "3")

    assert command.run(command.Wish(), options) == 1
    text = capsys.readouterr().out
    assert "\nshop/web:http TCP\n  - endpoint 10.244.22.10:8080 gets no connections\n" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text

    assert command.run(command.Wish(as_json=True), options) == 1
    document = json.loads(capsys.readouterr().out)
    assert not document["equal"]
    (one,) = document["differences"]
    assert (one["namespace"], one["name"], one["aspect"], one["sort"]) == ("shop", "web", "endpoint", "missing")

    assert command.run(command.Wish("shop/front"), options) == 0
    assert command.run(command.Wish("shop/wep"), options) == 4
    assert "is it one of shop/web?" in capsys.readouterr().err
    assert command.run(command.Wish("a(b"), options) == 2
    assert command.run(command.Wish(), Options(manifests="/nowhere")) == 4


def test_a_node_without_a_proxy(scenario_lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = Node(scenario_lab)
    with namespaces.entered(node.namespace):
        Programmed(node, tmp_path).want()
        assert command.run(command.Wish(), Options(manifests=str(tmp_path), node="node-a")) == 1
    assert "the kernel holds no IPv4 rules: no Service is served" in capsys.readouterr().out
