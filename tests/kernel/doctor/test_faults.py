"""Each fault that can be planted is found by the right check and mended by its fix; a healthy lab has none."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kpx.lab.faults.catalogue import FAULTS
from tests.kernel.doctor.clinic import (
    NOT_TRIED,
    OF_IPVS,
    QUICK,
    Clinic,
    clinic,
    found_and_mended,
    healthy,
    healthy_service,
)
from tests.packets.node import Node

OF_IPTABLES = [one for one in QUICK if "iptables" in FAULTS[one].modes]


@pytest.fixture(scope="module")
def nftables() -> Iterator[Clinic]:
    with clinic("nftables") as made:
        yield made


@pytest.fixture(scope="module")
def iptables() -> Iterator[Clinic]:
    with clinic("iptables") as made:
        yield made


@pytest.fixture(scope="module")
def legacy() -> Iterator[Clinic]:
    with clinic("iptables", legacy=True) as made:
        yield made


def served_by(here: Clinic) -> str:
    (told,) = here.doctor("sync", "--id", "KPX-PX-004").report["findings"]
    return str(told["says"])


@pytest.mark.parametrize("name", [one for one in QUICK if "nftables" in FAULTS[one].modes])
def test_a_fault_in_mode_nftables(nftables: Clinic, name: str) -> None:
    found_and_mended(nftables, name)


@pytest.mark.parametrize("name", OF_IPTABLES)
def test_a_fault_in_mode_iptables(iptables: Clinic, name: str) -> None:
    found_and_mended(iptables, name)


@pytest.mark.parametrize("name", OF_IPTABLES)
def test_a_fault_where_iptables_is_the_legacy_one(legacy: Clinic, name: str) -> None:
    found_and_mended(legacy, name)
    assert served_by(legacy) == "only iptables-legacy serves"


def test_a_healthy_lab_where_iptables_is_the_legacy_one(legacy: Clinic) -> None:
    healthy(legacy, NOT_TRIED | OF_IPVS)
    healthy_service(legacy, "shop/web")
    assert served_by(legacy) == "only iptables-legacy serves"


def test_a_healthy_lab_in_mode_nftables(nftables: Clinic) -> None:
    healthy(nftables, NOT_TRIED | OF_IPVS)
    for service in ("shop/web", "shop/front", "shop/dns"):
        healthy_service(nftables, service)


def test_a_rule_that_cannot_be_evaluated_is_not_passed_over(nftables: Clinic) -> None:
    node = Node(nftables.place)
    hook = "{ type filter hook forward priority 0; }"
    node.run(
        "nft", f"add table inet slow; add chain inet slow pass {hook}; add rule inet slow pass limit rate 1/day drop"
    )
    try:
        (told,) = nftables.doctor("clusterip", "shop/web", "--id", "KPX-FW-001").report["findings"]
    finally:
        node.run("nft", "delete table inet slow")
    assert told["status"] == "info"
    assert "depend on a rule that cannot be evaluated" in told["says"]


def test_what_syncs_spend_their_time_on_is_told(nftables: Clinic) -> None:
    (told,) = nftables.doctor("sync", "--id", "KPX-SY-002").report["findings"]
    (shares,) = [one["value"] for one in told["evidence"] if "last syncs" in one["value"]]
    assert re.fullmatch(r"of the time of the last syncs: decide \d+%, read \d+%, render \d+%, write \d+%", shares)


def test_a_healthy_lab_in_mode_iptables(iptables: Clinic) -> None:
    healthy(iptables, NOT_TRIED | OF_IPVS)
    for service in ("shop/web", "shop/shopfront"):
        healthy_service(iptables, service)
