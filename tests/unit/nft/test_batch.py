"""A transaction as text and as one batch."""

from __future__ import annotations

import pytest

from kpx.kernel.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attributes, messages
from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.batch import encode
from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.expressions import Counter, Verdict, VerdictCode
from kpx.kernel.nft.intervals import interval_elements
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Policy, Table, TableFlag
from kpx.kernel.nft.rules import accept, drop, rule
from kpx.kernel.nft.selectors import ip_daddr, l4proto, numgen_random, th_dport
from kpx.kernel.nft.sets import Set, SetFlag, pack
from kpx.kernel.nft.text import elements_text
from kpx.kernel.nft.transaction import (
    Elements,
    Operation,
    Transaction,
    add,
    create,
    delete,
    describe,
    destroy,
    flush,
    insert,
    replace,
)
from kpx.kernel.nft.wire import BATCH_BEGIN, BATCH_END, MessageType, NfFamily, TableName

TABLE = TableName(NfFamily.IP, "kpx")
SERVICES = Set("services", (ip_daddr, l4proto, th_dport), (types.verdict,), comment="all of them")
BACKENDS = Set("backends", (ip_daddr, numgen_random(4)), (ip_daddr, th_dport), counter=True)
CLIENTS = Set("clients", (types.ipv4_addr,), flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT, timeout=5000, size=100)
NETWORKS = Set("networks", (types.ipv4_addr,), flags=SetFlag.INTERVAL)
WEB = Element(pack(SERVICES.key, ("10.0.0.1", "tcp", 80)), Verdict(VerdictCode.GOTO, "lb"), "web:http")
PAIR = Element(pack(BACKENDS.key, ("10.0.0.1", 1)), pack(BACKENDS.data, ("10.1.0.1", 80)), counter=Counter(3, 180))
CHAIN = Chain("lb", comment="balances")
BASE = Chain("in", Hook("filter", HookPoint.INPUT, -5, Policy.DROP))
DROP = rule("lb", drop, comment="no")


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (add(Table()), "add table ip kpx"),
        (add(Table("ours", TableFlag.OWNER)), 'add table ip kpx { flags owner ; comment "ours" ; }'),
        (delete(Table()), "delete table ip kpx"),
        (flush(Table()), "flush table ip kpx"),
        (add(CHAIN), 'add chain ip kpx lb { comment "balances" ; }'),
        (create(BASE), "create chain ip kpx in { type filter hook input priority -5 ; policy drop ; }"),
        (flush(CHAIN), "flush chain ip kpx lb"),
        (delete(CHAIN), "delete chain ip kpx lb"),
        (add(DROP), 'add rule ip kpx lb drop comment "no"'),
        (insert(DROP), 'insert rule ip kpx lb drop comment "no"'),
        (replace(DROP, 7), 'replace rule ip kpx lb handle 7 drop comment "no"'),
        (delete(DROP, 7), "delete rule ip kpx lb handle 7"),
        (
            add(SERVICES),
            'add map ip kpx services { typeof ip daddr . meta l4proto . th dport : verdict ; comment "all of them" ; }',
        ),
        (
            add(CLIENTS),
            "add set ip kpx clients { type ipv4_addr ; flags timeout,dynamic ; timeout 5000ms ; size 100 ; }",
        ),
        (flush(SERVICES), "flush map ip kpx services"),
        (delete(CLIENTS), "delete set ip kpx clients"),
        (
            add(Elements(SERVICES, (WEB,))),
            'add element ip kpx services { 10.0.0.1 . tcp . 80 comment "web:http" : goto lb }',
        ),
        (delete(Elements(SERVICES, (WEB,))), "delete element ip kpx services { 10.0.0.1 . tcp . 80 }"),
        (
            add(Elements(BACKENDS, (PAIR,))),
            "add element ip kpx backends { 10.0.0.1 . 1 counter packets 3 bytes 180 : 10.1.0.1 . 80 }",
        ),
        (
            add(Elements(NETWORKS, interval_elements(["10.0.0.0/8", "224.0.0.0/3"]))),
            "add element ip kpx networks { 10.0.0.0-10.255.255.255, 224.0.0.0-255.255.255.255 }",
        ),
        (
            create(Elements(CLIENTS, (Element(b"\1\2\3\4", timeout=9),))),
            "create element ip kpx clients { 1.2.3.4 timeout 9ms }",
        ),
    ],
)
def test_operations_read_as_nft_would_be_told(operation: Operation, text: str) -> None:
    assert describe(TABLE, operation) == text


def test_elements_as_the_kernel_lists_them_are_paired_to_ranges() -> None:
    listed = interval_elements(["10.0.0.0/8", "192.0.2.0/24"])[::-1]
    assert list(elements_text(NETWORKS, listed)) == ["10.0.0.0-10.255.255.255", "192.0.2.0-192.0.2.255"]
    assert list(elements_text(NETWORKS, [])) == []


def test_a_transaction_is_printed_line_by_line() -> None:
    assert str(Transaction(TABLE, destroy(Table()))) == "add table ip kpx\ndelete table ip kpx\n"


@pytest.mark.parametrize(
    ("operation", "kind", "flags"),
    [
        (add(CHAIN), MessageType.NEWCHAIN, NLM_F_CREATE | NLM_F_APPEND),
        (create(CHAIN), MessageType.NEWCHAIN, NLM_F_CREATE | NLM_F_APPEND | NLM_F_EXCL),
        (add(DROP), MessageType.NEWRULE, NLM_F_CREATE | NLM_F_APPEND),
        (insert(DROP), MessageType.NEWRULE, NLM_F_CREATE),
        (replace(DROP, 3), MessageType.NEWRULE, NLM_F_REPLACE),
        (delete(DROP, 3), MessageType.DELRULE, 0),
        (flush(CHAIN), MessageType.DELRULE, 0),
        (flush(Table()), MessageType.DELRULE, 0),
        (flush(SERVICES), MessageType.DELSETELEM, 0),
        (delete(SERVICES), MessageType.DELSET, 0),
        (delete(Elements(SERVICES, (WEB,))), MessageType.DELSETELEM, 0),
        (delete(Table()), MessageType.DELTABLE, 0),
    ],
)
def test_operations_become_messages(operation: Operation, kind: MessageType, flags: int) -> None:
    begin, message, end = messages(encode(Transaction(TABLE, (operation,)), 1).data)
    assert (begin.type, message.type, end.type) == (BATCH_BEGIN, kind.number, BATCH_END)
    assert message.flags & ~NLM_F_ACK & ~1 == flags
    assert message.payload[0] == NfFamily.IP


def test_only_the_last_message_asks_for_an_answer() -> None:
    batch = encode(Transaction(TABLE, (add(Table()), add(CHAIN), add(DROP))), 100)
    found = list(messages(batch.data))
    assert [each.sequence for each in found] == [100, 101, 102, 103, 104]
    assert [bool(each.flags & NLM_F_ACK) for each in found] == [False, False, False, True, False]
    assert batch.last == 103


def test_a_check_has_no_end() -> None:
    found = list(messages(encode(Transaction(TABLE, (add(Table()),)), 1, commit=False).data))
    assert [each.type for each in found] == [BATCH_BEGIN, MessageType.NEWTABLE.number]


def test_the_expected_generation_is_in_the_first_message() -> None:
    begin = next(messages(encode(Transaction(TABLE, (add(Table()),)), 1, generation=77).data))
    assert dict(attributes(begin.payload[4:]))[1] == (77).to_bytes(4, "big")


def test_an_error_in_a_split_operation_is_told_to_the_element() -> None:
    elements = [Element(index.to_bytes(4, "big"), comment="x" * 100) for index in range(2000)]
    operations = (add(CHAIN), add(Elements(CLIENTS, elements)))
    batch = encode(Transaction(TABLE, operations), 10)
    assert len(batch.operations) > 4
    assert batch.operation(10) is None
    assert batch.operation(11) is operations[0]
    assert batch.operation(batch.last) is operations[1]
    last = list(messages(batch.data))[-2]
    # The second element of the last message: after the headers, the names and the list's own header.
    listed = bytes(last.payload).index(b"\x01\x80", 4)
    start = 16 + listed - 2
    first = batch.element(batch.last, start)
    assert first is not None
    length = int.from_bytes(bytes(last.payload[listed - 2 : listed]), "little")
    second = batch.element(batch.last, start + length)
    assert second is not None
    assert int.from_bytes(second.key, "big") == int.from_bytes(first.key, "big") + 1
    assert batch.element(batch.last, 20) is None


def test_nothing_to_do_is_no_message() -> None:
    assert encode(Transaction(TABLE, (add(Elements(SERVICES, ())),)), 1).operations == ()


def test_a_rule_is_deleted_by_its_handle_only() -> None:
    with pytest.raises(ValueError, match="handle"):
        encode(Transaction(TABLE, (delete(rule("lb", accept)),)), 1)


def test_the_end_of_an_interval_is_deleted_as_such() -> None:
    elements = interval_elements(["10.0.0.0/8"])
    batch = encode(Transaction(TABLE, (delete(Elements(NETWORKS, elements)),)), 1)
    assert INTERVAL_END.to_bytes(4, "big") in batch.data
