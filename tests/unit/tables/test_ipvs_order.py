"""The order of ipvsadm 1.31, seen on a kernel with these servers."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as some

from kpx.kernel.ipvs.types import Real, RealServer, Settings, Virtual, VirtualServer
from kpx.net import Family
from kpx.tables.ipvs.order import sorted_reals, sorted_virtuals

VIRTUALS = [
    Virtual("172.16.0.1", 80, "TCP"),
    Virtual("192.168.0.1", 80, "TCP"),
    Virtual("10.96.0.1", 80, "TCP"),
    Virtual("10.96.0.1", 443, "TCP"),
    Virtual("10.96.0.2", 80, "TCP"),
    Virtual("10.96.0.1", 53, "UDP"),
    Virtual("10.96.0.1", 99, "SCTP"),
    Virtual("fd00::1", 80, "TCP"),
    Virtual("fd00::1", 53, "UDP"),
    Virtual("fd00::2", 53, "UDP"),
    Virtual("", 0, "", 5),
    Virtual("", 0, "", 5, Family.IPV6),
    Virtual("", 0, "", 2**31 + 1, Family.IPV6),
]


def virtuals(names: list[Virtual]) -> list[VirtualServer]:
    return [VirtualServer(name, Settings()) for name in names]


def test_virtual_servers_are_in_order_from_any_other() -> None:
    shuffled = list(VIRTUALS)
    for seed in range(20):
        random.Random(seed).shuffle(shuffled)
        # 2**31 + 1 less 0 is negative for ipvsadm: that mark would come first beside servers without one.
        marked = [one for one in shuffled if one.mark]
        named = [one for one in shuffled if not one.mark]
        assert [one.virtual for one in sorted_virtuals(virtuals(named))] == VIRTUALS[:10]
        assert [one.virtual for one in sorted_virtuals(virtuals(marked))] == VIRTUALS[10:]


def test_where_no_order_holds_for_all_pairs_halves_are_merged() -> None:
    around = ["203.0.113.1", "10.0.0.1", "100.64.0.1"]
    servers = [RealServer(Real(address, 80)) for address in around]
    # Each comes before the next: 10 before 100, 100 before 203, 203 before 10.
    assert [one.real.address for one in sorted_reals(servers)] == ["203.0.113.1", "10.0.0.1", "100.64.0.1"]


@given(some.lists(some.tuples(some.ip_addresses().map(str), some.integers(0, 65535)), max_size=40))
def test_no_server_is_lost(servers: list[tuple[str, int]]) -> None:
    given_servers = [RealServer(Real(address, port)) for address, port in servers]
    assert sorted(str(one.real) for one in sorted_reals(given_servers)) == sorted(
        str(one.real) for one in given_servers
    )


@given(some.lists(some.tuples(some.integers(0, 2**31 - 1), some.integers(0, 65535)), unique=True, max_size=40))
def test_addresses_of_one_half_are_in_the_order_of_their_numbers(servers: list[tuple[int, int]]) -> None:
    def address(number: int) -> str:
        return ".".join(map(str, number.to_bytes(4, "big")))

    ordered = sorted_reals(RealServer(Real(address(number), port)) for number, port in servers)
    assert [one.real for one in ordered] == [Real(address(number), port) for number, port in sorted(servers)]
