"""`kpx diff` in mode ipvs: planted differences are named for the Service that they hit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kpx.diff.difference import Sort
from kpx.diff.facts import Aspect
from kpx.lab import Lab
from tests.packets.compared import Programmed, programmed
from tests.packets.node import IPVS
from tests.packets.own import Kpx


@pytest.fixture
def here(scenario_lab: Lab, tmp_path: Path) -> Iterator[Programmed]:
    with programmed(scenario_lab, IPVS, Kpx, tmp_path) as node:
        yield node


def found(here: Programmed) -> set[tuple[str, Sort, Aspect]]:
    return {(str(one.port), one.sort, one.aspect) for one in here.differences()}


def test_differences_are_named_for_the_service_that_they_hit(here: Programmed) -> None:
    assert here.texts() == []

    here.run("ipvsadm", "-d", "-t", "10.96.100.1:80", "-r", "10.244.22.10:8080")
    assert here.texts() == ["shop/web:http: endpoint 10.244.22.10:8080 of 10.96.100.1:80/TCP gets no connections"]

    here.run("ipvsadm", "-D", "-t", "10.96.100.1:80")
    assert ("shop/web:http", Sort.MISSING, Aspect.ADDRESS) in found(here)

    here.run("ipvsadm", "-E", "-t", "10.96.100.5:80", "-s", "rr")
    assert ("shop/sticky", Sort.MISSING, Aspect.AFFINITY) in found(here)

    here.run("ipset", "del", "KUBE-CLUSTER-IP", "10.96.100.8,tcp:6379")
    assert ("shop/cache:redis", Sort.MISSING, Aspect.RULE) in found(here)

    here.run("ip", "address", "del", "10.96.100.3/32", "dev", "kube-ipvs0")
    assert "shop/front:http: 10.96.100.3 on kube-ipvs0 is missing" in here.texts()


def test_others_and_what_all_services_need(here: Programmed) -> None:
    here.run("iptables-legacy", "-I", "FORWARD", "-p", "tcp", "--dport", "6379", "-j", "DROP")
    # What IPVS translates does not pass FORWARD, but goes out from here.
    assert here.texts() == []

    here.run("iptables-legacy", "-I", "OUTPUT", "-p", "tcp", "--dport", "6379", "-j", "REJECT")
    assert found(here) == {("shop/cache:redis", Sort.FOREIGN, Aspect.REJECTED)}

    here.run("iptables-legacy", "-t", "nat", "-F", "POSTROUTING")
    assert ("None", Sort.MISSING, Aspect.BASE) in found(here)
