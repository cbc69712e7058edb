"""nodePortAddresses."""

from __future__ import annotations

import pytest

from kpx.net import Family
from kpx.proxier.nodeports import NodePortAddresses, resolve_primary

V4, V6 = Family.IPV4, Family.IPV6


@pytest.mark.parametrize(
    ("cidrs", "family", "match_all", "loopback"),
    [
        ([], V4, True, True),
        ([], V6, True, False),
        (["192.0.2.0/24"], V4, False, False),
        (["192.0.2.0/24"], V6, True, False),
        (["2001:db8::/64"], V4, True, True),
        (["192.0.2.0/24", "0.0.0.0/0"], V4, True, True),
        (["127.0.0.0/8"], V4, False, True),
        (["127.0.0.1/32"], V4, False, True),
        (["126.0.0.0/7"], V4, False, True),
        (["::1/128"], V6, False, False),
        (["192.0.2.0/24", "127.0.0.0/8"], V4, False, True),
    ],
)
def test_what_the_setting_means(cidrs: list[str], family: Family, match_all: bool, loopback: bool) -> None:
    setting = NodePortAddresses(cidrs, family)
    assert (setting.match_all, setting.contains_loopback) == (match_all, loopback)


def test_the_matching_addresses_of_a_node_come_once_and_in_order() -> None:
    setting = NodePortAddresses(["192.0.2.0/24", "192.0.0.0/16", "10.0.0.1/32", "2001:db8::/64"], V4)
    local = ["127.0.0.1", "192.0.2.7", "10.0.0.2", "192.0.2.7", "10.0.0.1", "192.0.9.9"]
    assert setting.matching(local) == ["192.0.2.7", "10.0.0.1", "192.0.9.9"]
    assert NodePortAddresses([], V4).matching(local) == list(dict.fromkeys(local))


@pytest.mark.parametrize(
    ("setting", "node_ips", "expected"),
    [
        (["primary"], {V4: "192.0.2.1"}, ["192.0.2.1/32"]),
        (["primary"], {V6: "2001:db8::1", V4: "192.0.2.1"}, ["192.0.2.1/32", "2001:db8::1/128"]),
        (["primary"], {V4: "127.0.0.1", V6: "2001:db8::1"}, ["2001:db8::1/128"]),
        (["primary"], {V4: "127.0.0.1", V6: "::1"}, []),
        (["10.0.0.0/8"], {V4: "192.0.2.1"}, ["10.0.0.0/8"]),
        ([], {V4: "192.0.2.1"}, []),
    ],
)
def test_primary_stands_for_the_addresses_of_the_node(
    setting: list[str], node_ips: dict[Family, str], expected: list[str]
) -> None:
    assert resolve_primary(setting, node_ips) == expected
