"""The vocabulary of rules: what it compiles to, and how a rule reads."""

from __future__ import annotations

import pytest

from kpx.kernel.nft.expressions import (
    VERDICT,
    Bitwise,
    Cmp,
    CmpOp,
    Dynset,
    Immediate,
    Lookup,
    Meta,
    Nat,
    Payload,
    Reject,
    Unknown,
    Verdict,
    VerdictCode,
)
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.rules import (
    Action,
    among,
    counter,
    dnat,
    dnat_to,
    drop,
    eq,
    goto,
    gt,
    has,
    jump,
    limit,
    lt,
    map_to,
    mark_or,
    masquerade,
    ne,
    outside,
    reject,
    reject_with_reset,
    rule,
    update,
    vmap,
)
from kpx.kernel.nft.selectors import (
    Selector,
    ct_state,
    ct_status,
    daddr,
    fib_daddr_type,
    iifname,
    ip_daddr,
    ip_saddr,
    l4proto,
    meta_mark,
    numgen_random,
    saddr,
    th_dport,
)
from kpx.kernel.nft.text import rule_text
from kpx.kernel.nft.wire import NfFamily

IP, IP6, INET = NfFamily.IP, NfFamily.IP6, NfFamily.INET


def test_selectors_are_loaded_side_by_side() -> None:
    assert rule("a", ip_daddr, l4proto, th_dport, vmap("services")) == Rule(
        "a", (Payload(1, 16, 4, 0), Meta(16, 1), Payload(2, 2, 2, 2), Lookup("services", 0, VERDICT))
    )


def test_an_ipv6_address_takes_four_words() -> None:
    found = rule("a", daddr(IP6), l4proto, th_dport, numgen_random(3), map_to("backends"), dnat(IP6)).expressions
    assert found[:3] == (Payload(1, 24, 16, 0), Meta(16, 4), Payload(2, 2, 2, 5))
    assert found[4:] == (Lookup("backends", 0, 0), Nat(1, 10, 0, 4))


def test_each_action_takes_the_selectors_since_the_one_before() -> None:
    found = rule("a", ip_saddr, eq("10.0.0.1"), ip_daddr, among("set"), drop).expressions
    assert found == (
        Payload(1, 12, 4, 0),
        Cmp(CmpOp.EQ, bytes((10, 0, 0, 1))),
        Payload(1, 16, 4, 0),
        Lookup("set"),
        Immediate(Verdict(VerdictCode.DROP), VERDICT),
    )


def test_a_network_is_a_mask_and_a_comparison() -> None:
    found = rule("a", ip_daddr, ne("127.0.0.0/8"), drop).expressions
    assert found[1:3] == (Bitwise(bytes((255, 0, 0, 0)), bytes(4), 4), Cmp(CmpOp.NE, bytes((127, 0, 0, 0))))


def test_reject_follows_the_family() -> None:
    assert [rule("a", reject(family)).expressions[0] for family in (IP, IP6, INET)] == [
        Reject(0, 3),
        Reject(0, 4),
        Reject(2, 1),
    ]


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        pytest.param((ip_daddr,), "ends in ip daddr", id="unused at the end"),
        pytest.param((ip_daddr, drop), "does not use ip daddr", id="unused by an action"),
        pytest.param((among("set"),), "no selector before it", id="no key"),
        pytest.param((ip_daddr, th_dport, eq(1)), "one selector", id="two for a comparison"),
        pytest.param((ip_daddr, eq("fd00::1")), "is no ipv4_addr", id="another family's address"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(terms: tuple[Selector | Action, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        rule("a", *terms)


@pytest.mark.parametrize(
    ("family", "terms", "text"),
    [
        (IP, (ip_daddr, l4proto, th_dport, vmap("services")), "ip daddr . meta l4proto . th dport vmap @services"),
        (
            IP,
            (ip_daddr, numgen_random(5, 8), map_to("backends"), dnat(IP)),
            "dnat ip to ip daddr . numgen random mod 5 offset 8 map @backends",
        ),
        (IP, (l4proto, eq("tcp"), dnat_to("10.0.0.1", 80)), "meta l4proto tcp dnat to 10.0.0.1:80"),
        (IP6, (l4proto, eq("udp"), dnat_to("fd00::1", 53)), "meta l4proto udp dnat to [fd00::1]:53"),
        (INET, (l4proto, eq("udp"), dnat_to("fd00::1", 53)), "meta l4proto udp dnat ip6 to [fd00::1]:53"),
        (IP, (meta_mark, has(0x4000), masquerade()), "meta mark & 0x00004000 != 0x00000000 masquerade fully-random"),
        (IP, (mark_or(0x4000), masquerade(fully_random=False)), "meta mark set meta mark | 0x00004000 masquerade"),
        (IP, (ct_state, has("new"), ct_status, has("dnat"), counter(), drop), "ct state new ct status dnat counter"),
        (IP, (fib_daddr_type, eq("local"), jump("b")), "fib daddr type local jump b"),
        (IP6, (saddr(IP6), ne("fd00::/8"), goto("b")), "ip6 saddr != fd00::/8 goto b"),
        (IP, (ip_saddr, update("clients", 5000)), "update @clients { ip saddr timeout 5000ms }"),
        (IP, (th_dport, outside(30000, 32767), drop), "th dport != 30000-32767 drop"),
        (IP, (th_dport, gt(5), th_dport, lt(9), drop), "th dport > 5 th dport < 9 drop"),
        (IP, (iifname, eq("eth0"), reject_with_reset()), 'iifname "eth0" reject with tcp reset'),
        (IP6, (reject(IP6),), "reject"),
        (INET, (reject(IP),), "reject with icmp 3"),
        (IP, (limit(5, 7), drop), "limit rate 5/second burst 7 packets drop"),
    ],
)
def test_a_rule_reads_as_nft_prints_it(family: NfFamily, terms: tuple[Selector | Action, ...], text: str) -> None:
    assert rule_text(family, rule("a", *terms)).startswith(text)


@pytest.mark.parametrize(
    ("rule_", "text"),
    [
        # nft loads only the bytes of an address that a prefix covers, where those are whole.
        (Rule("a", (Payload(1, 16, 1, 0), Cmp(CmpOp.NE, b"\x7f"))), "ip daddr != 127.0.0.0/8"),
        (Rule("a", (Payload(1, 24, 8, 0), Cmp(CmpOp.EQ, b"\xfd" + bytes(7)))), "ip6 daddr fd00::/64"),
        (Rule("a", (Payload(1, 9, 1, 0), Cmp(CmpOp.EQ, b"\x06"))), "@nh,72,8 0x06"),
        (Rule("a", (Unknown("log"),), "why"), '[ log ] comment "why"'),
        (
            Rule("a", (Payload(2, 2, 2, 0), Cmp(CmpOp.GE, b"\0\x50"), Cmp(CmpOp.LE, b"\0\x5a"))),
            "th dport >= 80 th dport <= 90",
        ),
        (Rule("a", (Meta(3, 0), Dynset("s"))), "update @s { meta mark }"),
    ],
)
def test_rules_of_others_read_well_too(rule_: Rule, text: str) -> None:
    assert rule_text(NfFamily.IP, rule_) == text
