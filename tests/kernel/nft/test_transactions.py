"""A transaction happens whole or not at all, however large, and an error says what of it the kernel did not like."""

from __future__ import annotations

import errno
import subprocess
import threading

import pytest

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.errors import GenerationChanged, TransactionRefused
from kpx.kernel.nft.objects import Chain, Rule, Table
from kpx.kernel.nft.rules import accept, among, drop, goto, jump, rule
from kpx.kernel.nft.selectors import ip_daddr
from kpx.kernel.nft.transaction import (
    Elements,
    Operation,
    Transaction,
    add,
    create,
    delete,
    destroy,
    flush,
    insert,
    replace,
)
from kpx.kernel.nft.wire import NfFamily, TableName
from tests.kernel.nft.conftest import Apply
from tests.kernel.nft.skeleton import Skeleton


def chain_rules(nft: Nft, ip: Skeleton, chain: str) -> list[Rule]:
    return [entry.value for entry in nft.rules(ip.table, chain)]


def test_rules_are_added_inserted_replaced_and_deleted(nft: Nft, ip: Skeleton, change: Apply) -> None:
    one, two, three = (rule("spare", accept, comment=comment) for comment in ("1", "2", "3"))
    change(add(Chain("spare")), add(two), add(three), insert(one))
    assert chain_rules(nft, ip, "spare") == [one, two, three]
    handles = [entry.handle for entry in nft.rules(ip.table, "spare")]
    other = rule("spare", drop, comment="other")
    change(replace(other, handles[1]), delete(three, handles[2]))
    assert chain_rules(nft, ip, "spare") == [one, other]
    change(flush(Chain("spare")), add(two))
    assert chain_rules(nft, ip, "spare") == [two]
    change(flush(Table()))
    assert nft.rules(ip.table) == []
    change(delete(Chain("spare")), delete(ip.ranges))
    assert "spare" not in {entry.value.name for entry in nft.chains(ip.table)}
    assert ip.ranges not in {entry.value for entry in nft.sets(ip.table)}


def test_elements_are_added_deleted_and_flushed(nft: Nft, ip: Skeleton, change: Apply) -> None:
    first, second = ip.service(80), ip.service(81)
    change(add(Elements(ip.services, (first, second))))
    change(delete(Elements(ip.services, (first,))))
    assert nft.elements(ip.table, "service-ips") == [second]
    change(add(Elements(ip.services, (second,))))  # the same again is no error
    change(flush(ip.services))
    assert nft.elements(ip.table, "service-ips") == []


def test_an_elements_data_are_replaced_in_one_transaction(nft: Nft, ip: Skeleton, change: Apply) -> None:
    old, new = ip.backend(0, "10.42.0.1"), ip.backend(0, "10.42.0.2")
    change(add(Elements(ip.endpoints, (old,))))
    change(delete(Elements(ip.endpoints, (old,))), add(Elements(ip.endpoints, (new,))))
    (found,) = nft.elements(ip.table, "endpoints")
    assert found.data == new.data


def test_intervals_and_ranges_are_deleted(nft: Nft, ip: Skeleton, change: Apply) -> None:
    change(*map(add, ip.contents))
    held = {contents.set.name: contents for contents in ip.contents}
    change(delete(held["networks"]), delete(held["source-ranges"]))
    assert nft.elements(ip.table, "networks") == []
    assert nft.elements(ip.table, "source-ranges") == []


@pytest.mark.parametrize("there", [True, False], ids=["there", "not there"])
def test_destroy_removes_what_may_be_there(nft: Nft, there: bool) -> None:
    table = TableName(NfFamily.IP, "maybe")
    if there:
        nft.apply(Transaction(table, (add(Table("old")), add(Chain("chain")), add(rule("chain", drop)))))
    nft.apply(Transaction(table, (*destroy(Table()), add(Table()), *destroy(Chain("chain")))))
    assert (nft.chains(table), nft.rules(table)) == ([], [])


def test_of_a_refused_transaction_nothing_remains(nft: Nft, ip: Skeleton, change: Apply) -> None:
    before = nft.generation()
    with pytest.raises(TransactionRefused):
        change(add(Chain("new")), add(Elements(ip.services, (ip.service(),))), add(rule("missing", drop)))
    assert nft.generation() == before
    assert nft.elements(ip.table, "service-ips") == []


def elements(ip: Skeleton, *found: Element) -> Operation:
    return add(Elements(ip.services, found))


REFUSED = [
    pytest.param(
        lambda _: [add(rule("missing", drop))],
        errno.ENOENT,
        "add rule ip kpx missing drop: No such file or directory",
        id="no chain",
    ),
    pytest.param(
        lambda _: [add(rule("odds", ip_daddr, among("missing"), drop))],
        errno.ENOENT,
        "add rule ip kpx odds ip daddr @missing drop: No such file or directory",
        id="no set",
    ),
    pytest.param(
        lambda _: [add(Chain("new")), add(rule("services", jump("new"))), add(rule("new", goto("services")))],
        errno.EMLINK,
        ": Too many links",
        id="a loop",
    ),
    pytest.param(lambda _: [create(Chain("odds"))], errno.EEXIST, "create chain ip kpx odds", id="a chain again"),
    pytest.param(lambda _: [delete(Chain("lb-2"))], errno.EBUSY, "delete chain ip kpx lb-2", id="a chain in use"),
    pytest.param(lambda ip: [delete(ip.services)], errno.EBUSY, "delete map ip kpx service-ips", id="a map in use"),
    pytest.param(
        lambda ip: [elements(ip, *map(ip.service, range(1, 2000)), ip.service(7777, chain="no"))],
        errno.ENOENT,
        'add element ip kpx service-ips { 10.96.0.1 . tcp . 7777 comment "shop/web:http" : goto no }: No such',
        id="one element of many leads nowhere",
    ),
    pytest.param(
        lambda ip: [elements(ip, ip.service()), elements(ip, ip.service(chain="odds"))],
        errno.EEXIST,
        'add element ip kpx service-ips { 10.96.0.1 . tcp . 80 comment "shop/web:http" : goto odds }: File exists',
        id="an element with other data",
    ),
    pytest.param(
        lambda ip: [delete(Elements(ip.services, (ip.service(80),)))],
        errno.ENOENT,
        "delete element ip kpx service-ips { 10.96.0.1 . tcp . 80 }: No such file or directory",
        id="no such element",
    ),
    pytest.param(
        lambda ip: [
            add(Elements(ip.networks, (Element(b"\x0a\0\0\0"), Element(b"\x0b\0\0\0", flags=INTERVAL_END)))),
            add(Elements(ip.networks, (Element(b"\x0a\1\0\0"), Element(b"\x0c\0\0\0", flags=INTERVAL_END)))),
        ],
        errno.EEXIST,
        "add element ip kpx networks { 10.1.0.0 }: File exists",
        id="intervals that overlap",
    ),
]


@pytest.mark.parametrize(("operations", "code", "text"), REFUSED)
def test_a_refusal_names_what_was_refused(
    ip: Skeleton, change: Apply, operations: object, code: int, text: str
) -> None:
    assert callable(operations)
    with pytest.raises(TransactionRefused) as refused:
        change(*operations(ip))
    assert refused.value.errno == code
    assert text in str(refused.value)


def test_every_failure_is_told(change: Apply) -> None:
    with pytest.raises(TransactionRefused, match="and 2 more") as refused:
        change(add(rule("a", drop)), add(Chain("good")), add(rule("b", drop)), add(rule("c", drop)))
    assert [failure.what.split()[4] for failure in refused.value.failures] == ["a", "b", "c"]
    assert str(refused.value.failures[1]) == "add rule ip kpx b drop: No such file or directory"


def test_a_table_that_is_not_there(nft: Nft) -> None:
    with pytest.raises(TransactionRefused, match="add chain inet nowhere lost: No such file or directory"):
        nft.apply(Transaction(TableName(NfFamily.INET, "nowhere"), (add(Chain("lost")),)))


def test_more_failures_than_the_buffer_holds_neither_hang_nor_pass(nft: Nft, change: Apply) -> None:
    with pytest.raises(TransactionRefused) as refused:
        change(*(add(rule("missing", drop)) for _ in range(30_000)))
    assert 100 < len(refused.value.failures) < 30_000
    change(add(Chain("afterwards")))  # the connection is as good as before
    assert nft.generation() > 0


def test_a_batch_of_150_000_elements(nft: Nft, ip: Skeleton, change: Apply) -> None:
    count = 150_000
    data = ip.backend(0, "10.42.0.1").data
    head = ip.backend(0, "10.42.0.1").key[4:]
    change(
        add(
            Elements(
                ip.endpoints,
                [Element(index.to_bytes(4, "big") + head, data, f"shop/web-{index // 5}") for index in range(count)],
            )
        )
    )
    last = nft.element(ip.table, "endpoints", (count - 1).to_bytes(4, "big") + head)
    assert last is not None
    assert last.comment == f"shop/web-{(count - 1) // 5}"
    assert nft.element(ip.table, "endpoints", count.to_bytes(4, "big") + head) is None
    change(flush(ip.endpoints))
    assert nft.elements(ip.table, "endpoints") == []


def test_a_batch_of_20_000_operations(nft: Nft, ip: Skeleton, change: Apply) -> None:
    names = [f"lb-{index}" for index in range(10_000)]
    change(*(add(Chain(name)) for name in names), *(add(rule(name, drop)) for name in names))
    assert {entry.value.name for entry in nft.chains(ip.table)} >= set(names)
    assert len(nft.rules(ip.table)) == len(ip.rules) + len(names)


def test_nothing_to_do_is_done_without_the_kernel(nft: Nft, ip: Skeleton, change: Apply) -> None:
    before = nft.generation()
    change(add(Elements(ip.services, ())))
    change()
    assert nft.generation() == before


def test_a_change_by_another_makes_a_transaction_stale(nft: Nft, change: Apply) -> None:
    read = nft.generation()
    change(add(Chain("first")), generation=read)
    subprocess.run(["nft", "add", "chain", "ip", "kpx", "foreign"], check=True)
    with pytest.raises(GenerationChanged, match=f"generation {read}"):
        change(add(Chain("second")), generation=read)
    change(add(Chain("second")), generation=nft.generation())


def test_a_check_changes_nothing_and_tells_the_same(nft: Nft, ip: Skeleton) -> None:
    before = nft.generation()
    nft.check(Transaction(ip.table, (add(Chain("never")),)))
    looped = (add(Chain("never")), add(rule("never", goto("never"))), add(rule("nat-output", jump("never"))))
    with pytest.raises(TransactionRefused, match="never: Too many links"):
        nft.check(Transaction(ip.table, looped))
    assert nft.generation() == before


def test_connections_of_several_threads_do_not_disturb_each_other(nft: Nft, ip: Skeleton) -> None:
    def work(number: int) -> None:
        with Nft() as own:
            for round_ in range(50):
                element = ip.service(1000 * number + round_)
                own.apply(Transaction(ip.table, (add(Elements(ip.services, (element,))),)))

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nft.elements(ip.table, "service-ips")) == 150
