"""What is not as the cluster wants it is named for the Service it hits: on rules as stock kube-proxy writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kpx.net import Family
from kpx.tools.cluster import Options
from kpx.trace import questions
from kpx.trace.command import answer
from kpx.trace.comparison import Sort
from kpx.trace.questions import Asked
from tests.packets.fixtures import Planting
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Variant
from tests.packets.scenario import FIXTURE

STOCK = [pytest.param(one, id=one.name) for one in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)]
IPTABLES = STOCK[:2]
NFT = [pytest.param(NFTABLES, id="nftables")]
POD = "10.244.21.11"
ENDPOINT = "10.244.22.10:8080"
WEB = "KUBE-SVC-67NZLRHBNDSAWJRO"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """What the cluster wants: the objects that the stock rules were made from."""
    shutil.copy(FIXTURE / "objects.yaml", tmp_path)
    return Options(manifests=str(tmp_path), node="node-a")


def differences(text: str, options: Options, sender: str = POD) -> dict[Sort, str]:
    (question,) = questions.find(Asked(text, sender=sender), options).questions
    found = answer(question, sender).differences
    assert found is not None
    return {one.sort: one.text for one in found}


@pytest.mark.parametrize("sender", ["pod", "node", "external"])
@pytest.mark.parametrize("variant", STOCK)
def test_what_kube_proxy_made_is_as_the_cluster_wants_it(
    planted: Planting, variant: Variant, sender: str, options: Options
) -> None:
    planted(variant, *Family)
    services = ["web", "dns", "front", "edge", "sticky", "legacy", "empty", "cache", "faraway", "zoned", "leaving"]

    found = {
        f"{one.target} {sender}": answer(one, sender)
        for service in [*services, "dual", "viaproxy"]
        for one in questions.find(Asked(f"shop/{service}", sender=sender, via="all"), options).questions
        if one.target.family is Family.IPV4 or sender == "pod"
    }

    told = {where: [one.text for one in each.differences or ()] for where, each in found.items() if each.differences}
    assert told == {}
    assert len(found) > 18


@pytest.mark.parametrize("variant", IPTABLES)
def test_an_endpoint_that_no_rule_leads_to(planted: Planting, variant: Variant, options: Options) -> None:
    node = planted(variant, *Family)
    node.run(variant.iptables(Family.IPV4), "-t", "nat", "-D", WEB, "2")

    assert differences("shop/web", options) == {
        Sort.MISSING_ENDPOINT: "no packet goes to 10.244.21.10:8080, which is an endpoint"
    }


@pytest.mark.parametrize("variant", NFT)
def test_an_endpoint_that_no_map_leads_to(planted: Planting, variant: Variant, options: Options) -> None:
    node = planted(variant, *Family)
    chain = "ip kube-proxy service-KHN6ECMT-shop/web/tcp/http"
    node.run("nft", f"flush chain {chain}; add rule {chain} meta l4proto tcp dnat to 10.244.21.10:8080")

    assert differences("shop/web", options) == {
        Sort.MISSING_ENDPOINT: f"no packet goes to {ENDPOINT}, which is an endpoint"
    }


@pytest.mark.parametrize("variant", STOCK)
def test_the_rule_for_an_address_is_gone(planted: Planting, variant: Variant, options: Options) -> None:
    node = planted(variant, *Family)
    if variant is NFTABLES:
        node.run("nft", "delete element ip kube-proxy service-ips { 10.96.100.1 . tcp . 80 }")
    else:
        program = variant.iptables(Family.IPV4)
        rules = node.run(program, "-t", "nat", "-S", "KUBE-SERVICES").splitlines()
        number = next(at for at, rule in enumerate(rules) if rule.endswith(f"-j {WEB}"))
        node.run(program, "-t", "nat", "-D", "KUBE-SERVICES", str(number))

    refused = "a packet is rejected before it goes to an endpoint: "
    assert differences("shop/web", options) == (
        {Sort.LOST: f"{refused}the address is a Service's, but the Service has no such port"}
        if variant is NFTABLES
        else {Sort.UNTRANSLATED: "no rule sends the packet to an endpoint"}
    )
    assert differences("shop/front", options) == {}


@pytest.mark.parametrize("variant", STOCK)
def test_a_translation_before_ours(planted: Planting, variant: Variant, options: Options) -> None:
    node = planted(variant, *Family)
    node.run("nft", "add table ip other; add chain ip other pre { type nat hook prerouting priority dstnat - 10; }")
    node.run("nft", "add rule ip other pre ip daddr 10.96.100.1 tcp dport 80 dnat to 10.244.22.99:81")

    found = differences("shop/web", options)

    assert found.keys() == {Sort.FOREIGN_DESTINATION}
    assert "a packet goes to 10.244.22.99:81, which is none of its endpoints" in found[Sort.FOREIGN_DESTINATION]
    assert "of table ip other, chain pre" in found[Sort.FOREIGN_DESTINATION]


@pytest.mark.parametrize("verdict", ["drop", "reject"])
@pytest.mark.parametrize("variant", STOCK)
def test_a_refusal_by_another_tool(planted: Planting, variant: Variant, verdict: str, options: Options) -> None:
    node = planted(variant, *Family)
    node.run("nft", "add table inet fw; add chain inet fw forward { type filter hook forward priority 0; }")
    node.run("nft", f"add rule inet fw forward ip daddr 10.244.22.10 tcp dport 8080 {verdict}")

    found = differences("shop/web", options)

    assert found.keys() == {Sort.LOST}
    assert found[Sort.LOST].startswith(f"what goes to endpoint {ENDPOINT} is {verdict}")
    assert "of table inet fw, chain forward, which is not kube-proxy's" in found[Sort.LOST]


@pytest.mark.parametrize("variant", IPTABLES)
def test_masquerading_that_is_missing(planted: Planting, variant: Variant, options: Options) -> None:
    node = planted(variant, *Family)
    node.run(variant.iptables(Family.IPV4), "-t", "nat", "-D", "POSTROUTING", "1")

    found = differences("shop/front", options, "external")

    assert found.keys() == {Sort.MASQUERADE}
    assert "keeps its source 203.0.113.1, and should be masqueraded" in found[Sort.MASQUERADE]
