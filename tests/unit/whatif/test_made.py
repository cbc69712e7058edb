"""The rules that would be made, in memory."""

from __future__ import annotations

import pytest

from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.intervals import found, interval_elements
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.net import Family, packed
from kpx.proxier.node import LocalTraffic
from kpx.whatif.made import Circumstances, make
from tests.unit.whatif.test_assumptions import planned, supposed

HERE = Circumstances(Family.IPV4, LocalTraffic("10.244.0.0/16"))


@pytest.mark.parametrize(
    ("mode", "table", "chain"), [("ipvs", "nat", "KUBE-SERVICES"), ("iptables", "nat", "KUBE-SVC-67NZLRHBNDSAWJRO")]
)
def test_masquerading_all(mode: str, table: str, chain: str) -> None:
    def marking(*texts: str) -> list[bool]:
        rules = make(mode, supposed(planned(), *texts), HERE).chains[table, chain]
        marks = [rule for rule in rules if rule.endswith("-j KUBE-MARK-MASQ") and "luster" in rule]
        return ["! -s 10.244.0.0/16" in rule for rule in marks]

    assert marking() == [True]
    assert marking("masqueradeAll=true") == [False]


def test_an_interval_is_found_by_an_address_in_it() -> None:
    declared = Set("sources", (), flags=SetFlag.INTERVAL)
    elements = {one.key: one for one in interval_elements(["10.0.0.0/24", "10.0.2.0/24"])}

    def inside(address: str) -> Element | None:
        return found(declared, elements, packed(address))

    assert all(map(inside, ("10.0.0.0", "10.0.0.255", "10.0.2.7")))
    assert not any(map(inside, ("9.255.255.255", "10.0.1.0", "10.0.3.0")))
