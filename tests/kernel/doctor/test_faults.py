"""Each fault that can be planted is found by the right check and mended by its fix; a healthy lab has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpx.lab.faults.catalogue import FAULTS
from tests.kernel.doctor.clinic import NOT_TRIED, OF_IPVS, Clinic, clinic, found_and_mended, healthy, healthy_service

# A table of 262,144 entries takes a while to fill: that is done where the limit can be lowered (tests/ipvs).
QUICK = [one for one in FAULTS if one != "conntrack-full"]
# Those that depend on what the proxy's rules are.
OF_RULES = (
    "rules-flushed",
    "service-rule-missing",
    "endpoint-rule-missing",
    "masquerade-missing",
    "forward-policy",
    "foreign-dnat",
    "no-localhost-node-ports",
    "old-rules",
)


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


@pytest.mark.parametrize("name", [one for one in QUICK if "nftables" in FAULTS[one].modes])
def test_a_fault_in_mode_nftables(nftables: Clinic, name: str) -> None:
    found_and_mended(nftables, name)


@pytest.mark.parametrize("name", OF_RULES)
def test_a_fault_in_mode_iptables(iptables: Clinic, name: str) -> None:
    found_and_mended(iptables, name)


@pytest.mark.parametrize("name", ["service-rule-missing", "foreign-dnat", "old-rules"])
def test_a_fault_where_iptables_is_the_legacy_one(legacy: Clinic, name: str) -> None:
    found_and_mended(legacy, name)


def test_a_healthy_lab_where_iptables_is_the_legacy_one(legacy: Clinic) -> None:
    healthy(legacy, NOT_TRIED | OF_IPVS)
    healthy_service(legacy, "shop/web")
    told = legacy.doctor("sync", "--id", "KPX-PX-004").report["findings"][0]
    assert told["says"] == "only iptables-legacy serves"


def test_a_healthy_lab_in_mode_nftables(nftables: Clinic) -> None:
    healthy(nftables, NOT_TRIED | OF_IPVS)
    for service in ("shop/web", "shop/front", "shop/dns"):
        healthy_service(nftables, service)


def test_a_healthy_lab_in_mode_iptables(iptables: Clinic) -> None:
    healthy(iptables, NOT_TRIED | OF_IPVS)
    for service in ("shop/web", "shop/shopfront"):
        healthy_service(iptables, service)
