"""The doctor in mode ipvs: a healthy lab has no fault, and those that are planted are found and mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kpx.kernel import sysctl
from kpx.kernel.network_namespaces import entered
from kpx.lab.faults.catalogue import FAULTS
from tests.kernel.doctor.clinic import NOT_TRIED, QUICK, Clinic, clinic, found_and_mended, healthy, healthy_service

# The network namespace in which the limit may be changed.
_FIRST = Path("/proc/1/ns/net")
_LIMIT = "net/netfilter/nf_conntrack_max"


@pytest.fixture(scope="module")
def ipvs() -> Iterator[Clinic]:
    with clinic("ipvs") as made:
        yield made


@pytest.mark.parametrize("name", [one for one in QUICK if "ipvs" in FAULTS[one].modes])
def test_a_fault(ipvs: Clinic, name: str) -> None:
    found_and_mended(ipvs, name, alone=True)


def test_a_full_conntrack_table(ipvs: Clinic) -> None:
    """The limit is lowered first: this kernel is the tests' own."""
    with entered(_FIRST):
        before = sysctl.read_int(_LIMIT)
        sysctl.write(_LIMIT, 2000)
    try:
        found_and_mended(ipvs, "conntrack-full", alone=True)
    finally:
        with entered(_FIRST):
            sysctl.write(_LIMIT, before)


def test_a_healthy_lab(ipvs: Clinic) -> None:
    healthy(ipvs, NOT_TRIED)
    healthy_service(ipvs, "shop/web")
