"""Keys and data: packed as the kernel compares them, unpacked as nft prints them."""

from __future__ import annotations

import ipaddress
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.intervals import interval_elements, merged, pack_range
from kpx.kernel.nft.selectors import ct_state, ip6_daddr, ip_daddr, l4proto, numgen_random, th_dport
from kpx.kernel.nft.sets import Set, pack, unpack

SLOT = (3).to_bytes(4, sys.byteorder)


def test_fields_of_a_concatenation_are_padded_to_four_bytes() -> None:
    key = (ip_daddr, l4proto, th_dport, numgen_random(8))
    packed = pack(key, ("10.96.0.1", "tcp", 80, 3))
    assert packed == bytes((10, 96, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0)) + SLOT
    assert unpack(key, packed) == ("10.96.0.1", "tcp", "80", "3")
    assert Set("a", key).key_length == len(packed)


def test_a_single_field_is_not_padded() -> None:
    assert pack((th_dport,), (80,)) == b"\0\x50"
    assert pack((l4proto,), ("udp",)) == b"\x11"
    assert Set("a", (th_dport,)).key_length == 2


def test_an_ipv6_key() -> None:
    packed = pack((ip6_daddr, th_dport), ("fd00::1", 53))
    assert len(packed) == 20
    assert unpack((ip6_daddr, th_dport), packed) == ("fd00::1", "53")


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        (types.mark, 0x4000, (0x4000).to_bytes(4, sys.byteorder)),
        (types.ct_status, "dnat", (0x20).to_bytes(4, sys.byteorder)),
        (ct_state.type, "established,related", (6).to_bytes(4, sys.byteorder)),
        (types.fib_addrtype, "local", (2).to_bytes(4, sys.byteorder)),
        (types.inet_proto, 132, b"\x84"),
        (types.inet_proto, "200", b"\xc8"),
        (types.ifname, "eth0", b"eth0" + bytes(12)),
    ],
)
def test_values_are_packed_in_their_types_order(kind: types.DataType, value: str | int, data: bytes) -> None:
    assert kind.pack(value) == data


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (types.mark, (0x4000).to_bytes(4, sys.byteorder), "0x00004000"),
        (types.ct_state, (10).to_bytes(4, sys.byteorder), "established,new"),
        (types.ct_state, bytes(4), "0x0"),
        (types.inet_proto, b"\xc8", "200"),
        (types.inet_proto, b"\x84", "sctp"),
        (types.ifname, b"eth0" + bytes(12), '"eth0"'),
    ],
)
def test_values_are_printed_as_nft_prints_them(kind: types.DataType, data: bytes, text: str) -> None:
    assert kind.text(data) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (types.ipv4_addr, "fd00::1"),
        (types.ipv4_addr, "10.0.0.0/8"),
        (types.inet_service, 65536),
        (types.inet_service, "http"),
        (types.inet_proto, -1),
        (types.ct_state, "newish"),
        (types.ifname, "a-name-of-sixteen"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: types.DataType, value: str | int) -> None:
    with pytest.raises(ValueError, match="is no"):
        kind.pack(value)


networks = st.builds(
    lambda base, length: str(ipaddress.ip_network((base, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(20, 32),
) | st.sampled_from(["0.0.0.0/0", "10.0.0.0/9", "10.128.0.0/9", "255.255.255.255/32", "224.0.0.0/3"])


@given(st.lists(networks, max_size=8))
def test_merged_ranges_cover_the_same_addresses_and_do_not_touch(given_networks: list[str]) -> None:
    ranges = merged(given_networks)
    assert all(int(before[1]) + 1 < int(after[0]) for before, after in itertools.pairwise(ranges))
    collapsed = list(ipaddress.collapse_addresses(ipaddress.IPv4Network(each) for each in given_networks))
    assert sum(int(last) - int(first) + 1 for first, last in ranges) == sum(
        network.num_addresses for network in collapsed
    )
    for network in collapsed:
        assert any(int(first) <= int(network[0]) and int(network[-1]) <= int(last) for first, last in ranges)


def test_a_range_is_a_begin_and_what_comes_after_its_end() -> None:
    assert interval_elements(["10.1.0.0/16", "10.0.0.0/16", "10.0.3.0/24"], "web") == [
        Element(bytes((10, 0, 0, 0)), comment="web"),
        Element(bytes((10, 2, 0, 0)), flags=INTERVAL_END),
    ]


def test_a_range_up_to_the_last_address_has_no_end() -> None:
    assert interval_elements(["ff00::/8"]) == [Element(b"\xff" + bytes(15))]


def test_a_range_in_a_concatenation() -> None:
    fields = (types.ipv4_addr, types.inet_service, types.ipv4_addr)
    first, last = pack_range(fields, ("10.0.0.1", 80, "192.0.2.0/24"))
    assert unpack(fields, first) == ("10.0.0.1", "80", "192.0.2.0")
    assert unpack(fields, last) == ("10.0.0.1", "80", "192.0.2.255")
