"""What is rendered is what is parsed, for every kind of object."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpx.kernel.netlink import attribute, attributes, be32, nested, text
from kpx.kernel.nft.coding import parse_expression, render_expression
from kpx.kernel.nft.elements import Element, parse_elements, render_elements
from kpx.kernel.nft.expressions import Counter, Expression, Lookup, Nat, Unknown
from kpx.kernel.nft.objects import (
    Chain,
    Rule,
    Table,
    parse_chain,
    parse_rule,
    parse_table,
    render_chain,
    render_rule,
    render_table,
)
from kpx.kernel.nft.sets import Set, parse_set, render_set
from kpx.kernel.nft.wire import NfFamily, TableName
from tests.unit.nft import strategies

TABLE = TableName(NfFamily.IP, "kpx")


def found(data: bytes) -> dict[int, memoryview]:
    return dict(attributes(memoryview(data)))


@given(strategies.expressions)
def test_expressions(expression: Expression) -> None:
    assert parse_expression(memoryview(render_expression(expression))) == expression


@given(strategies.tables)
def test_tables(table: Table) -> None:
    assert parse_table(found(render_table(TABLE, table))) == table


@given(strategies.chains)
def test_chains(chain: Chain) -> None:
    assert parse_chain(found(render_chain(TABLE, chain))) == chain


@given(strategies.rules)
def test_rules(rule: Rule) -> None:
    assert parse_rule(found(render_rule(TABLE, rule))) == rule


@given(strategies.sets)
def test_sets(value: Set) -> None:
    assert parse_set(found(render_set(TABLE, value))) == value


@given(st.lists(strategies.elements, max_size=20))
def test_elements(elements: list[Element]) -> None:
    rendered = list(render_elements(elements))
    assert [each for piece in rendered for each in parse_elements(piece)] == elements


@given(st.lists(strategies.elements, min_size=1, max_size=5))
def test_a_deletion_names_an_element_and_says_no_more(elements: list[Element]) -> None:
    (piece,) = render_elements(elements, keys_only=True)
    bare = [Element(each.key, key_end=each.key_end, flags=each.flags) for each in elements]
    assert parse_elements(piece) == bare


@settings(max_examples=10)
@given(st.integers(1, 128), st.integers(400, 1500))
def test_many_elements_are_split_and_none_is_lost(length: int, count: int) -> None:
    elements = [Element(index.to_bytes(4, "big"), comment="c" * length) for index in range(count)]
    pieces = list(render_elements(elements))
    assert all(len(piece) < 65_000 for piece in pieces)
    assert [each for piece in pieces for each in parse_elements(piece)] == elements


def test_the_kernels_own_layout_of_a_counter_is_read() -> None:
    # As Linux 6.18 dumps it: bytes before packets, and no flag on what is nested.
    counter = attribute(1, b"counter\0") + attribute(
        2, attribute(1, (700).to_bytes(8, "big")) + attribute(2, (7).to_bytes(8, "big"))
    )
    key = attribute(1, attribute(1, b"\x0a\x60\x00\x01"))
    assert parse_elements(attribute(1, key + attribute(7, counter))) == [
        Element(b"\x0a\x60\x00\x01", counter=Counter(packets=7, bytes=700))
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("nat", be32(1, 1) + be32(2, 2) + be32(3, 1) + be32(4, 2), id="a range of addresses"),
        pytest.param("lookup", text(1, "web") + be32(2, 1) + be32(9, 7), id="an attribute without a field"),
        pytest.param("cmp", be32(1, 1), id="without what it needs"),
        pytest.param("bitwise", be32(1, 1) + be32(2, 1) + be32(3, 4) + be32(6, 1), id="another operation"),
        pytest.param("osf", be32(1, 1), id="not known"),
    ],
)
def test_what_no_value_can_say_is_kept_as_it_came(name: str, data: bytes) -> None:
    raw = text(1, name) + nested(2, data)
    expression = parse_expression(memoryview(raw))
    assert expression == Unknown(name, data)
    assert render_expression(expression) == raw


def test_flags_that_the_kernel_adds_to_a_translation_do_not_make_it_another() -> None:
    dumped = b"".join([be32(1, 1), be32(2, 2), be32(3, 1), be32(4, 1), be32(5, 9), be32(6, 9), be32(7, 0x13)])
    assert parse_expression(memoryview(text(1, "nat") + nested(2, dumped))) == Nat(1, 2, 0, 1, 0x10)


def test_a_register_is_written_as_the_kernel_writes_it() -> None:
    rendered = render_expression(Lookup("web", source=4, target=5))
    assert be32(2, 2) in rendered  # NFT_REG_2: the second 16 bytes
    assert be32(3, 13) in rendered  # NFT_REG32_05
