"""Hypothesis strategies for nftables values."""

from __future__ import annotations

from hypothesis import strategies as st

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft import expressions as ex
from kpx.kernel.nft import selectors
from kpx.kernel.nft.elements import CATCH_ALL, INTERVAL_END, Element
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Policy, Rule, Table, TableFlag
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.kernel.nft.userdata import printable_comment
from kpx.kernel.nft.wire import NfFamily, TableName

names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_/.-]{0,60}", fullmatch=True)
comments = st.text(max_size=140).map(printable_comment)
short_comments = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"'), max_size=20)
u8 = st.integers(0, 0xFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
registers = st.integers(0, 15)
optional_registers = st.none() | registers
values = st.binary(min_size=1, max_size=16)
table_names = st.builds(TableName, st.sampled_from([NfFamily.IP, NfFamily.IP6, NfFamily.INET]), names)

verdicts = st.builds(ex.Verdict, st.sampled_from([ex.VerdictCode.DROP, ex.VerdictCode.ACCEPT, ex.VerdictCode.RETURN]))
verdicts |= st.builds(ex.Verdict, st.sampled_from([ex.VerdictCode.JUMP, ex.VerdictCode.GOTO]), names)
counters = st.builds(ex.Counter, u64, u64)

expressions: st.SearchStrategy[ex.Expression] = st.one_of(
    st.builds(ex.Payload, st.integers(0, 2), u8, u8, registers),
    st.builds(ex.Meta, u32, registers),
    st.builds(ex.Meta, u32, source=registers),
    st.builds(ex.Ct, u32, registers, st.none(), st.none() | u8),
    st.builds(ex.Fib, u32, u32, registers),
    st.builds(ex.Numgen, u32, st.integers(0, 1), u32, registers),
    st.builds(ex.Cmp, st.integers(0, 5), values, registers),
    st.builds(ex.Range, st.integers(0, 1), values, values, registers),
    st.builds(ex.Bitwise, values, values, u8, registers, registers),
    st.builds(ex.Lookup, names, registers, st.none() | registers | st.just(ex.VERDICT), st.integers(0, 1)),
    st.builds(ex.Dynset, names, st.integers(0, 2), registers, optional_registers, u64, st.none() | counters, u32),
    st.builds(ex.Immediate, values, registers),
    st.builds(ex.Immediate, verdicts, st.just(ex.VERDICT)),
    st.builds(
        ex.Nat,
        st.integers(0, 1),
        st.sampled_from([2, 10]),
        optional_registers,
        optional_registers,
        st.sampled_from([0, 4, 8, 16, 24]),
    ),
    st.builds(ex.Masquerade, st.sampled_from([0, 4, 8, 16, 24])),
    st.builds(ex.Reject, st.integers(0, 2), st.none() | u8),
    counters,
    st.builds(ex.Limit, u64, u64, u32, st.integers(0, 1), st.integers(0, 1)),
    st.builds(ex.Unknown, st.sampled_from(["log", "match", "notrack"]), st.just(b"")),
)

tables = st.builds(Table, comments, st.sampled_from([TableFlag.NONE, TableFlag.OWNER]))
hooks = st.builds(
    Hook,
    st.sampled_from(["filter", "nat", "route"]),
    st.sampled_from(HookPoint),
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from(Policy),
)
chains = st.builds(Chain, names, st.none() | hooks, comments)
rules = st.builds(Rule, names, st.lists(expressions, max_size=8).map(tuple), comments)

bare_fields = st.sampled_from(
    [types.ipv4_addr, types.ipv6_addr, types.inet_proto, types.inet_service, types.mark, types.ifname]
)
selector_fields = st.one_of(
    st.sampled_from(
        [
            selectors.ip_saddr,
            selectors.ip_daddr,
            selectors.ip6_saddr,
            selectors.l4proto,
            selectors.th_dport,
            selectors.meta_mark,
            selectors.fib_daddr_type,
            selectors.ct_state,
        ]
    ),
    st.builds(selectors.numgen_random, st.integers(1, 65536), st.integers(0, 65536)),
)


def _keys(fields: st.SearchStrategy[selectors.Field]) -> st.SearchStrategy[tuple[selectors.Field, ...]]:
    return st.lists(fields, min_size=1, max_size=4).map(tuple)


keys = _keys(bare_fields) | _keys(selector_fields)
few_keys = _keys(bare_fields) | st.lists(selector_fields, min_size=1, max_size=2).map(tuple)
sets = st.builds(
    Set,
    names,
    keys,
    st.just(()) | st.just((types.verdict,)) | few_keys,
    st.sampled_from([SetFlag.NONE, SetFlag.INTERVAL, SetFlag.TIMEOUT | SetFlag.DYNAMIC]),
    u64,
    st.booleans(),
    u32,
    short_comments,
)

elements = st.builds(
    Element,
    st.binary(min_size=1, max_size=40),
    st.none() | st.binary(min_size=1, max_size=24) | verdicts,
    comments,
    st.none() | counters,
    u64,
    u64,
    st.just(b"") | st.binary(min_size=1, max_size=40),
    st.sampled_from([0, INTERVAL_END]),
) | st.builds(Element, st.just(b""), st.none() | verdicts, flags=st.just(CATCH_ALL))
