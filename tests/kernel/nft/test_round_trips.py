"""What is written to the kernel is what is read back from it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.expressions import Counter, Verdict, VerdictCode
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Policy, Rule, Table, TableFlag
from kpx.kernel.nft.rules import (
    Action,
    accept,
    among,
    between,
    counter,
    dnat_to,
    drop,
    eq,
    gt,
    has,
    leave,
    limit,
    lt,
    mark_or,
    mark_xor,
    masquerade,
    ne,
    not_among,
    outside,
    reject,
    reject_with_reset,
    rule,
    update,
    vmap,
)
from kpx.kernel.nft.selectors import (
    Selector,
    ct_mark,
    ct_state,
    fib_saddr_type,
    ip_daddr,
    ip_saddr,
    l4proto,
    meta_mark,
    nfproto,
    oifname,
    th_dport,
    th_sport,
)
from kpx.kernel.nft.sets import Set, SetFlag, pack
from kpx.kernel.nft.transaction import Elements, Transaction, add, destroy
from kpx.kernel.nft.wire import NfFamily, TableName
from tests.kernel.nft.skeleton import Skeleton
from tests.unit.nft import strategies

SCRATCH = TableName(NfFamily.IP, "scratch")
PROFILE = settings(max_examples=60, deadline=None)

_network: st.SearchStrategy[str | int] = st.sampled_from(["10.0.0.0/8", "192.0.2.0/25", "0.0.0.0/1", "198.51.100.7"])
_port = st.integers(1, 65534)
_mark = st.integers(1, 0xFFFFFFFF)
_clauses: st.SearchStrategy[tuple[Selector | Action, ...]] = st.one_of(
    st.tuples(st.sampled_from([ip_saddr, ip_daddr]), _network.map(eq) | _network.map(ne)),
    st.tuples(st.sampled_from([th_sport, th_dport]), _port.map(lt) | _port.map(gt) | _port.map(eq)),
    st.tuples(
        st.just(th_dport), _port.map(lambda port: between(port, 65535)) | _port.map(lambda port: outside(1, port))
    ),
    st.tuples(st.just(meta_mark) | st.just(ct_mark), _mark.map(has) | _mark.map(eq)),
    st.tuples(_mark.map(mark_or) | _mark.map(mark_xor)),
    st.tuples(st.just(l4proto), st.sampled_from([eq("tcp"), eq("udp"), eq(132)])),
    st.tuples(st.just(ct_state), st.sampled_from(["new", "established,related"]).map(has)),
    st.tuples(st.just(fib_saddr_type), st.sampled_from([eq("local"), ne("unicast")])),
    st.tuples(st.just(oifname), st.sampled_from(["eth0", "a-long-name-here"[:15]]).map(eq)),
    st.tuples(st.just(nfproto), st.just(eq("ipv4"))),
    st.tuples(st.just(ip_daddr), st.just(l4proto), st.just(th_dport), st.just(vmap("verdicts"))),
    st.tuples(st.just(ip_saddr), st.sampled_from([among("addresses"), not_among("addresses"), update("addresses")])),
    st.tuples(st.just(counter()) | st.builds(limit, st.integers(1, 1000), st.integers(1, 100))),
)
_ends: st.SearchStrategy[tuple[Selector | Action, ...]] = st.sampled_from(
    [
        (),
        (accept,),
        (drop,),
        (leave,),
        (reject(NfFamily.IP),),
        (l4proto, eq("tcp"), reject_with_reset()),
        (masquerade(),),
        (masquerade(fully_random=False),),
        (l4proto, eq("udp"), dnat_to("10.0.0.1", 53)),
    ]
)
_rules = st.builds(
    lambda clauses, end, comment: rule(
        "chain", *(term for clause in clauses for term in clause), *end, comment=comment
    ),
    st.lists(_clauses, max_size=3),
    _ends,
    strategies.comments,
).filter(lambda made: bool(made.expressions))


@PROFILE
@given(st.lists(_rules, min_size=1, max_size=8))
def test_rules(rules: list[Rule]) -> None:
    verdicts = Set("verdicts", (ip_daddr, l4proto, th_dport), Skeleton(NfFamily.IP).services.data)
    addresses = Set("addresses", (ip_saddr,), flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT, timeout=1000, size=8)
    with Nft() as nft:
        made = (*destroy(Table()), add(Table()), add(verdicts), add(addresses), add(Chain("chain")))
        nft.apply(Transaction(SCRATCH, (*made, *map(add, rules))))
        assert [entry.value for entry in nft.rules(SCRATCH, "chain")] == rules


@PROFILE
@given(
    strategies.short_comments,
    strategies.names,
    st.builds(
        Hook,
        st.just("filter"),
        st.sampled_from([point for point in HookPoint if point is not HookPoint.INGRESS]),
        st.integers(-(2**31) + 1, 2**31 - 1),
        st.sampled_from(Policy),
    ),
    st.text(min_size=1, max_size=3, alphabet="ab"),
    strategies.comments,
)
def test_tables_and_chains(comment: str, name: str, hook: Hook, regular: str, chain_comment: str) -> None:
    table = TableName(NfFamily.IP6, "t" + name)
    chains = {Chain("z" + name, hook, chain_comment), Chain(regular, comment=comment)}
    with Nft() as nft:
        nft.apply(Transaction(table, (*destroy(Table()), add(Table(comment)), *map(add, chains))))
        try:
            assert [each.value for each in nft.tables() if each.table == table] == [Table(comment)]
            assert {each.value for each in nft.chains(table)} == chains
        finally:
            nft.apply(Transaction(table, destroy(Table())))


@PROFILE
@given(
    strategies.keys,
    st.just(()) | st.just(Skeleton(NfFamily.IP).services.data) | strategies.few_keys,
    st.booleans(),
    st.integers(0, 2**20),
    strategies.short_comments,
)
def test_sets_and_maps(
    key: tuple[Selector, ...], data: tuple[Selector, ...], counter_each: bool, size: int, comment: str
) -> None:
    value = Set("a-set", key, data, counter=counter_each, size=size, comment=comment)
    with Nft() as nft:
        if value.key_length > 64:
            value = replace(value, key=key[:1])
        nft.apply(Transaction(SCRATCH, (*destroy(Table()), add(Table()), add(value))))
        assert [entry.value for entry in nft.sets(SCRATCH)] == [value]


def test_the_whole_skeleton(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    assert [(entry.table, entry.value) for entry in nft.tables()] == [(skeleton.table, Table("rules of kpx"))]
    assert {entry.value for entry in nft.sets(skeleton.table)} == set(skeleton.sets)
    assert {entry.value for entry in nft.chains(skeleton.table)} == set(skeleton.chains)
    for name in (each.name for each in skeleton.chains):
        written = [each for each in skeleton.rules if each.chain == name]
        assert [entry.value for entry in nft.rules(skeleton.table, name)] == written
    for contents in skeleton.contents:
        read = nft.elements(skeleton.table, contents.set.name)
        counted = Counter() if contents.set.counter else None
        written_elements = [with_counter(element, counted) for element in contents.elements]
        assert sorted(read, key=_order) == sorted(written_elements, key=_order)


def with_counter(element: Element, counted: Counter | None) -> Element:
    return Element(element.key, element.data, element.comment, counted, key_end=element.key_end, flags=element.flags)


def _order(element: Element) -> tuple[bytes, int]:
    return element.key, element.flags


def test_a_counter_begins_where_it_is_told_to(nft: Nft, ip: Skeleton) -> None:
    plain = ip.backend(0, "10.42.0.1")
    moved = Element(plain.key, plain.data, plain.comment, Counter(packets=12, bytes=720))
    nft.apply(Transaction(ip.table, (add(Elements(ip.endpoints, (moved,))),)))
    assert nft.elements(ip.table, "endpoints") == [moved]


def test_an_element_has_what_is_left_of_its_timeout(nft: Nft, ip: Skeleton) -> None:
    elements = (Element(bytes((10, 0, 0, 1)), timeout=60_000, expires=30_000), Element(bytes((10, 0, 0, 2))))
    nft.apply(Transaction(ip.table, (add(Elements(ip.clients, elements)),)))
    found = {element.key: element for element in nft.elements(ip.table, "clients")}
    first = found[elements[0].key]
    assert first.timeout == 60_000
    assert 20_000 < first.expires <= 30_000
    assert 10_000_000 < found[elements[1].key].expires <= ip.clients.timeout


def test_an_owned_table_goes_with_the_connection_that_made_it(nft: Nft) -> None:
    with Nft() as owner:
        owner.apply(Transaction(SCRATCH, (add(Table("mine", TableFlag.OWNER)), add(Chain("a")))))
        assert nft.tables()[0].value == Table("mine", TableFlag.OWNER)
    assert nft.tables() == []


def test_a_verdict_of_a_map_leads_to_its_chain(nft: Nft, ip: Skeleton) -> None:
    verdicts = [
        Verdict(VerdictCode.GOTO, "lb-2"),
        Verdict(VerdictCode.JUMP, "odds"),
        *map(Verdict, (VerdictCode.DROP, VerdictCode.ACCEPT, VerdictCode.RETURN, VerdictCode.CONTINUE)),
    ]
    elements = [
        Element(pack(ip.services.key, ("10.0.0.1", "udp", port)), verdict) for port, verdict in enumerate(verdicts, 1)
    ]
    nft.apply(Transaction(ip.table, (add(Elements(ip.services, elements)),)))
    assert sorted(nft.elements(ip.table, "service-ips"), key=_order) == elements


def test_the_end_of_an_interval_is_read_as_such(nft: Nft, ip: Skeleton) -> None:
    nft.apply(Transaction(ip.table, tuple(map(add, ip.contents))))
    assert sum(element.flags == INTERVAL_END for element in nft.elements(ip.table, "networks")) == 2
