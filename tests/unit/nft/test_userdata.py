"""The bytes that let nft print an object: exactly those that nft 1.0.6 itself wrote for the same declarations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.kernel.netlink import attributes
from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.objects import Rule, Table, render_rule, render_table
from kpx.kernel.nft.selectors import (
    ct_state,
    daddr,
    fib_daddr_type,
    iifname,
    ip6_saddr,
    ip_daddr,
    ip_saddr,
    l4proto,
    meta_mark,
    numgen_random,
    saddr,
    selectors_of,
    th_dport,
    th_sport,
    typeof_of,
)
from kpx.kernel.nft.sets import Set, SetFlag, render_set
from kpx.kernel.nft.userdata import comment_record, printable_comment, read_comment
from kpx.kernel.nft.wire import NfFamily, TableName

TABLE = TableName(NfFamily.IP, "kpx")
ADDRESS = types.ipv4_addr
SERVICE_TYPES = (types.ipv4_addr, types.inet_proto, types.inet_service)
SERVICE = (ip_daddr, l4proto, th_dport)
IP_DADDR = "00 04 07 00 00 00 01 0c 00 04 0c 00 00 00 01 04 0c 00 00 00"
IP_SADDR = "00 04 07 00 00 00 01 0c 00 04 0c 00 00 00 01 04 0b 00 00 00"
L4PROTO = "00 04 09 00 00 00 01 06 00 04 10 00 00 00"
TH_DPORT = "00 04 07 00 00 00 01 0c 00 04 0b 00 00 00 01 04 02 00 00 00"
CONCAT = "00 04 0d 00 00 00 01"

DECLARATIONS = [
    pytest.param(
        Set("a", SERVICE_TYPES, (types.verdict,), comment="virtual addresses"),
        "00 04 00 00 00 00 01 04 00 00 00 00 03 08 00 04 0d 00 00 00 01 00 06 04 00 00 00 00"
        " 07 12 76 69 72 74 75 61 6c 20 61 64 64 72 65 73 73 65 73 00",
        id="verdict map of types",
    ),
    pytest.param(
        Set("a", SERVICE, (types.verdict,)),
        "00 04 00 00 00 00 01 04 00 00 00 00"
        f" 03 44 {CONCAT} 3c 00 14 {IP_DADDR} 01 0e {L4PROTO} 02 14 {TH_DPORT}"
        " 04 08 00 04 01 00 00 00 01 00 06 04 00 00 00 00",
        id="verdict map of selectors",
    ),
    pytest.param(
        Set("a", (*SERVICE, numgen_random(65536)), (ip_daddr, th_dport), counter=True),
        "00 04 00 00 00 00 01 04 00 00 00 00"
        f" 03 60 {CONCAT} 58 00 14 {IP_DADDR} 01 0e {L4PROTO} 02 14 {TH_DPORT}"
        " 03 1a 00 04 17 00 00 00 01 12 00 04 01 00 00 00 01 04 00 00 01 00 02 04 00 00 00 00"
        f" 04 34 {CONCAT} 2c 00 14 {IP_DADDR} 01 14 {TH_DPORT} 06 04 00 00 00 00",
        id="map to addresses and ports",
    ),
    pytest.param(Set("a", (ADDRESS, ADDRESS)), "00 04 00 00 00 00 03 08 00 04 0d 00 00 00 01 00", id="two addresses"),
    pytest.param(Set("a", (ADDRESS,), flags=SetFlag.DYNAMIC, timeout=1), "00 04 02 00 00 00", id="addresses"),
    pytest.param(Set("a", (types.inet_proto,)), "00 04 00 00 00 00", id="protocols"),
    pytest.param(Set("a", (types.mark,)), "00 04 01 00 00 00", id="marks"),
    pytest.param(
        Set("a", (ADDRESS,), (ADDRESS, types.inet_service)),
        "00 04 02 00 00 00 01 04 00 00 00 00 04 08 00 04 0d 00 00 00 01 00 06 04 00 00 00 00",
        id="map of types",
    ),
    pytest.param(
        Set("a", (ip_saddr, ip_daddr, meta_mark)),
        f"00 04 00 00 00 00 03 44 {CONCAT} 3c 00 14 {IP_SADDR} 01 14 {IP_DADDR}"
        " 02 0e 00 04 09 00 00 00 01 06 00 04 03 00 00 00",
        id="addresses and mark",
    ),
    pytest.param(
        Set("a", (fib_daddr_type,)),
        "00 04 01 00 00 00 03 14 00 04 1a 00 00 00 01 0c 00 04 03 00 00 00 01 04 02 00 00 00",
        id="fib",
    ),
    pytest.param(
        Set("a", (ct_state,)),
        "00 04 01 00 00 00 03 14 00 04 0c 00 00 00 01 0c 00 04 00 00 00 00 01 04 ff ff ff ff",
        id="conntrack",
    ),
    pytest.param(
        Set("a", (iifname,)), "00 04 01 00 00 00 03 0e 00 04 09 00 00 00 01 06 00 04 06 00 00 00", id="interface"
    ),
    pytest.param(
        Set("a", (numgen_random(10, 5),)),
        "00 04 01 00 00 00 03 1a 00 04 17 00 00 00 01 12 00 04 01 00 00 00 01 04 0a 00 00 00 02 04 05 00 00 00",
        id="numgen with offset",
    ),
    pytest.param(
        Set("a", (ip6_saddr, daddr(NfFamily.IP6), l4proto, th_sport)),
        f"00 04 00 00 00 00 03 5a {CONCAT} 52"
        " 00 14 00 04 07 00 00 00 01 0c 00 04 0d 00 00 00 01 04 08 00 00 00"
        " 01 14 00 04 07 00 00 00 01 0c 00 04 0d 00 00 00 01 04 09 00 00 00"
        f" 02 0e {L4PROTO} 03 14 00 04 07 00 00 00 01 0c 00 04 0b 00 00 00 01 04 01 00 00 00",
        id="IPv6 flow",
    ),
]


@pytest.mark.parametrize(("value", "expected"), DECLARATIONS)
def test_a_sets_types_are_written_as_nft_106_writes_them(value: Set, expected: str) -> None:
    found = dict(attributes(memoryview(render_set(TABLE, value))))
    assert bytes(found[13]).hex(" ") == expected


def test_comments_of_other_objects_are_written_as_nft_106_writes_them() -> None:
    table = dict(attributes(memoryview(render_table(TABLE, Table("rules of kpx")))))
    assert bytes(table[6]).hex(" ") == "00 0d 72 75 6c 65 73 20 6f 66 20 6b 70 78 00"
    rule = dict(attributes(memoryview(render_rule(TABLE, Rule("a", (), "go")))))
    assert bytes(rule[7]).hex(" ") == "00 03 67 6f 00"


def test_what_a_newer_nft_writes_for_bare_types_names_no_selectors() -> None:
    # nft 1.1.3, for a key of two types.
    assert selectors_of(bytes.fromhex("00040d000000010a00000004040000000100")) is None


def test_types_and_selectors_do_not_mix() -> None:
    with pytest.raises(ValueError, match="not of both"):
        typeof_of((ip_daddr, types.inet_service))


def test_addresses_follow_the_family() -> None:
    assert (saddr(NfFamily.IP), daddr(NfFamily.IP)) == (ip_saddr, ip_daddr)
    assert saddr(NfFamily.IP6) == ip6_saddr


@given(st.text(max_size=300))
def test_any_text_becomes_a_comment_that_nft_can_print(text: str) -> None:
    comment = printable_comment(text)
    assert len(comment.encode()) <= 128
    assert '"' not in comment
    assert comment == "" or comment.isprintable()
    assert printable_comment(comment) == comment
    assert read_comment(comment_record(comment)) == comment


def test_long_comments_that_differ_at_the_end_stay_apart() -> None:
    assert printable_comment("x" * 200 + "1") != printable_comment("x" * 200 + "2")


def test_a_comment_that_nft_cannot_print_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot print"):
        comment_record('say "no"')


def test_a_comment_that_leaves_a_set_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        render_set(TABLE, Set("a", (*SERVICE, numgen_random(2)), (ip_daddr, th_dport), comment="c" * 128))
