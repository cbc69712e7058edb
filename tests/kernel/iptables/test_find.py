"""Which variant of iptables a node uses, by what others have left in the kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kpx.kernel.iptables.program import Iptables, Variant, find
from kpx.net import Family

NETWORK = Path("/proc/thread-self/net")
RULES = "-p tcp -j ACCEPT"


def run(variant: Variant, *words: str, family: Family = Family.IPV4) -> None:
    subprocess.run([Iptables(family, variant).program(), *words], check=True)


def test_nft_where_nothing_is() -> None:
    assert find(Family.IPV4) == Iptables(Family.IPV4, Variant.NFT)


@pytest.mark.parametrize("chain", ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"])
@pytest.mark.parametrize("variant", list(Variant))
def test_a_hint_counts_more_than_the_rules_of_the_other_variant(variant: Variant, chain: str) -> None:
    other = next(one for one in Variant if one is not variant)
    run(other, "-A", "INPUT", *RULES.split())
    run(variant, "-t", "mangle", "-N", chain)

    assert find(Family.IPV4).variant is variant


@pytest.mark.parametrize("hinted", [True, False])
@pytest.mark.parametrize("variant", list(Variant))
def test_the_variant_with_more_rules_where_hints_do_not_decide(variant: Variant, hinted: bool) -> None:
    for one in Variant:
        if hinted:
            run(one, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
        run(one, "-A", "INPUT", *RULES.split())
    run(variant, "-A", "FORWARD", *RULES.split())

    assert find(Family.IPV4).variant is variant


def test_both_families_use_the_variant_of_one() -> None:
    run(Variant.LEGACY, "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")

    assert find(Family.IPV6, among=Family.IPV4) == Iptables(Family.IPV6, Variant.LEGACY)


@pytest.mark.parametrize("tables", [[], ["filter"]])
def test_looking_brings_no_legacy_table_into_being(tables: list[str]) -> None:
    for table in tables:
        run(Variant.LEGACY, "-t", table, "-A", "INPUT", *RULES.split())
    find(Family.IPV4)

    assert (NETWORK / "ip_tables_names").read_text().split() == tables
