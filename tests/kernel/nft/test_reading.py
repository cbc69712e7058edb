"""Reads: what is missing is empty, one element is found by its key, and several reads can be of one state."""

from __future__ import annotations

import threading

import pytest

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.errors import GenerationChanged
from kpx.kernel.nft.objects import Chain
from kpx.kernel.nft.transaction import Elements, Transaction, add, delete, flush
from kpx.kernel.nft.wire import NfFamily, TableName
from tests.kernel.nft.conftest import Apply
from tests.kernel.nft.skeleton import Skeleton

NOWHERE = TableName(NfFamily.IP6, "nowhere")


def test_what_is_not_there_is_empty(nft: Nft, ip: Skeleton) -> None:
    assert (nft.chains(NOWHERE), nft.rules(NOWHERE), nft.sets(NOWHERE)) == ([], [], [])
    assert nft.elements(NOWHERE, "set") == []
    assert nft.elements(ip.table, "missing") == []
    assert nft.rules(ip.table, "missing") == []
    assert nft.element(ip.table, "missing", b"1234") is None


def test_an_element_is_found_by_its_key(nft: Nft, ip: Skeleton, change: Apply) -> None:
    wanted = ip.service(80)
    change(add(Elements(ip.services, (wanted, ip.service(81)))))
    assert nft.element(ip.table, "service-ips", wanted.key) == wanted
    assert nft.element(ip.table, "service-ips", ip.service(82).key) is None


def test_an_address_is_found_in_its_interval(nft: Nft, ip: Skeleton, change: Apply) -> None:
    change(*map(add, ip.contents))
    found = nft.element(ip.table, "networks", bytes((10, 42, 7, 7)))
    assert found == Element(bytes((10, 42, 0, 0)))
    assert nft.element(ip.table, "networks", bytes((10, 43, 0, 0))) is None


def test_objects_of_other_tables_are_left_out(nft: Nft, ip: Skeleton, skeleton: Skeleton) -> None:
    other = TableName(skeleton.family, "other")
    renamed = skeleton.transaction
    nft.apply(Transaction(other, renamed.operations))
    assert {entry.table for entry in nft.chains()} == {ip.table, other}
    assert {entry.table for entry in nft.chains(ip.table)} == {ip.table}
    assert {entry.table for entry in nft.rules(other)} == {other}
    assert len(nft.rules(other)) == len(skeleton.rules)
    assert {entry.value for entry in nft.sets(ip.table)} == set(ip.sets)
    assert len(nft.elements(ip.table, "hairpin")) == 0
    assert len(nft.elements(other, "hairpin")) == 2


def test_large_sets_are_read_whole_even_while_the_kernel_rehashes_them(nft: Nft, ip: Skeleton, change: Apply) -> None:
    # Without care most such reads just after the elements came miss some of them.
    head = ip.backend(0, "10.42.0.1").key[4:]
    elements = [
        Element(index.to_bytes(4, "big") + head, ip.backend(0, "10.42.0.1").data, f"shop/web-{index}")
        for index in range(20_000)
    ]
    written = {(element.key, element.comment) for element in elements}
    for _ in range(5):
        change(flush(ip.endpoints), add(Elements(ip.endpoints, elements)))
        read = nft.elements(ip.table, "endpoints")
        assert len(read) == len(elements)
        assert {(element.key, element.comment) for element in read} == written


def test_two_reads_are_of_one_state_while_another_changes_it(nft: Nft, ip: Skeleton, change: Apply) -> None:
    # Another connection keeps one element in both sets: a reader must never see it in one only.
    stop = threading.Event()
    change(add(Elements(ip.cluster_ips, [Element(bytes((10, 0, 0, index))) for index in range(250)])))

    def write() -> None:
        with Nft() as own:
            for index in range(1, 2000):
                element = Element(bytes((10, 9, index >> 8, index & 0xFF)))
                pair = Element(element.key * 2)
                both = (Elements(ip.cluster_ips, (element,)), Elements(ip.hairpin, (pair,)))
                own.apply(Transaction(ip.table, tuple(map(add, both))))
                # Ever slower, so that a reader gets its turn on a busy machine as well.
                if stop.wait(0.0005 * index):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            generation, (singles, pairs) = nft.consistent(
                lambda: (nft.elements(ip.table, "cluster-ips"), nft.elements(ip.table, "hairpin"))
            )
            assert {each.key[:4] for each in pairs} == {each.key for each in singles if each.key[1] == 9}
            assert generation <= nft.generation()
    finally:
        stop.set()
        writer.join()


def test_a_ruleset_that_never_holds_still_is_no_single_state(nft: Nft, ip: Skeleton) -> None:
    def disturbed() -> None:
        nft.apply(Transaction(ip.table, (add(Chain("busy")),)))
        nft.apply(Transaction(ip.table, (delete(Chain("busy")),)))

    with pytest.raises(GenerationChanged, match="each of"):
        nft.consistent(disturbed)
