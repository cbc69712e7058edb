"""`kpx diff` and `kpx trace --if` beside a daemon: what is wanted comes from it, and who changed the rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpx.lab import Lab
from kpx.tools.daemon import Daemon as Asked
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.places import started, within
from tests.kernel.daemon.process import DEADLINE_SECONDS, eventually
from tests.kernel.daemon.test_services_command import Here


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


@pytest.fixture
def here(place: Lab, node: Node, daemons: Daemons) -> Here:
    return Here(place, started(daemons, place, node, "nftables").socket)


def test_what_others_do_is_told(here: Here, place: Lab) -> None:
    assert "no difference in 20 service ports" in here.kpx("diff").stdout

    within(place, "nft", "delete element ip kpx service-ips { 10.96.100.1 . tcp . 80 }")

    eventually(lambda: Asked(here.socket, DEADLINE_SECONDS).drift().drift)
    told = json.loads(here.kpx("diff", "-o", "json").stdout)
    assert told["equal"]
    assert told["source"] == "daemon"
    assert "elements of service-ips removed by nft" in told["drift"][0]["what"]
    assert "changed by others at " in here.kpx("diff").stdout


def test_a_filter_hits_some_services(here: Here, place: Lab) -> None:
    within(place, "nft", "add table inet fw; add chain inet fw pass { type filter hook forward priority 0; }")
    within(place, "nft", "add rule inet fw pass ip daddr 10.244.22.10 tcp dport 8080 drop")
    try:
        found = here.kpx("diff", status=1).stdout
        one = here.kpx("diff", "svc/cart", "-n", "shop", status=1).stdout
        here.kpx("diff", "shop/dns")
    finally:
        within(place, "nft", "delete table inet fw")

    assert "shop/cart:http TCP, shop/web:http TCP\n  ! packets from pods are dropped on the way to" in found
    assert "1 difference; 1 of 2 service ports hit" in one


def test_another_proxys_rules_are_named(here: Here, place: Lab) -> None:
    within(place, "iptables-nft", "-t", "nat", "-N", "KUBE-SERVICES")
    within(place, "iptables-nft", "-t", "nat", "-A", "PREROUTING", "-j", "KUBE-SERVICES")
    try:
        found = here.kpx("diff", status=1).stdout
    finally:
        within(place, "iptables-nft", "-t", "nat", "-F", "PREROUTING")

    assert "rules of another service proxy are there as well: iptables-nft" in found


def test_suppositions(here: Here, place: Lab) -> None:
    before = within(place, "nft", "list", "ruleset")

    away = here.kpx("trace", "shop/web", "--from", "node", "--if", "endpoint=10.244.21.10:notready", "-o", "json")
    local = here.kpx("trace", "shop/empty", "--from", "external", "--if", "mode=iptables", status=3)

    ends = {one["ending"]["destination"] for one in json.loads(away.stdout)["traces"][0]["branches"]}
    assert ends == {"10.244.22.10"}
    assert "supposed: mode=iptables" in local.stdout
    assert "REJECTED: the Service has no endpoints" in local.stdout
    assert within(place, "nft", "list", "ruleset") == before


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["trace", "shop/web", "--if", "policy=Local"], 2, "write one of mode=iptables|ipvs|nftables"),
        (["trace", "shop/web", "--if", "endpoint=10.9.9.9:gone"], 2, "has no such endpoint; it has 10.244.21.10:8080"),
        (["trace", "10.244.21.10:8080", "--if", "mode=ipvs"], 2, "--if is for Services"),
        (["diff", "shop/wep"], 4, "there is no Service wep in namespace shop; is it one of shop/web?"),
        (["diff", "a(b"], 2, "is neither the name of a Service nor a regular expression"),
    ],
)
def test_mistakes(words: list[str], status: int, said: str, here: Here) -> None:
    done = here.kpx(*words, status=status)

    assert said in " ".join(done.stderr.split())
    assert not done.stdout


def test_with_nobody_to_ask(place: Lab, tmp_path: Path) -> None:
    here = Here(place, tmp_path / "none.sock")

    assert "no kubeconfig was found" in here.kpx("diff", status=4).stderr
