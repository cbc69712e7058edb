"""Changes as the kernel reports them: what, by whom, and only those that are wanted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from kpx.kernel.netlink import Overrun
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.entries import Entry, Name, SetElements
from kpx.kernel.nft.listener import Changed, Committed, Event, Listener, Removed
from kpx.kernel.nft.objects import Chain, Rule, Table
from kpx.kernel.nft.rules import drop, rule
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.transaction import Elements, Transaction, add, delete, flush
from kpx.kernel.nft.wire import NfFamily, TableName
from tests.kernel.nft.conftest import Apply
from tests.kernel.nft.skeleton import Skeleton
from tests.kernel.processes import as_told


def nft_program(*words: str) -> int:
    """Run nft; its process id."""
    with subprocess.Popen(["nft", *words]) as process:
        assert process.wait() == 0
        return process.pid


def received(listener: Listener) -> list[Event]:
    """All that has been reported: the kernel does so before a transaction's sender goes on."""
    events: list[Event] = []
    while batch := listener.receive(0):
        events += batch
    return events


@pytest.fixture
def listener(ip: Skeleton) -> Iterator[Listener]:
    assert ip
    with Listener() as opened:
        yield opened


def test_every_kind_of_object_is_reported(nft: Nft, listener: Listener, skeleton: Skeleton) -> None:
    other = TableName(skeleton.family, "other")
    nft.apply(Transaction(other, skeleton.transaction.operations))
    events = received(listener)
    entries = [event.subject for event in events if isinstance(event, Changed) and isinstance(event.subject, Entry)]
    assert {entry.table for entry in entries} == {other}
    values = {entry.value for entry in entries}
    assert {each for each in values if isinstance(each, Set)} == set(skeleton.sets)
    assert {each for each in values if isinstance(each, Chain)} == set(skeleton.chains)
    assert {each for each in values if isinstance(each, Rule)} == set(skeleton.rules)
    assert {each for each in values if isinstance(each, Table)} == {Table("rules of kpx")}
    added = [event.subject for event in events if isinstance(event, Changed) and isinstance(event.subject, SetElements)]
    assert {element.key for each in added if each.set == "endpoints" for element in each.elements} == {
        element.key for element in skeleton.contents[1].elements
    }
    assert events[-1] == Committed(nft.generation(), as_told(os.getpid()), events[-1].program)  # type: ignore[union-attr]


def test_a_foreign_program_is_named(nft: Nft, listener: Listener) -> None:
    pid = nft_program("add", "element", "ip", "kpx", "cluster-ips", "{ 192.0.2.1 }")
    changed, committed = received(listener)
    table = TableName(NfFamily.IP, "kpx")
    assert changed == Changed(SetElements(table, "cluster-ips", (Element(bytes((192, 0, 2, 1))),)))
    assert committed == Committed(nft.generation(), as_told(pid), "nft")


def test_removals_are_named(nft: Nft, ip: Skeleton, change: Apply, listener: Listener) -> None:
    change(add(Chain("spare")), add(rule("spare", drop)), add(Elements(ip.services, (ip.service(),))))
    handles = {
        "rule": nft.rules(ip.table, "spare")[0].handle,
        "chain": next(entry.handle for entry in nft.chains(ip.table) if entry.value.name == "spare"),
        "set": next(entry.handle for entry in nft.sets(ip.table) if entry.value == ip.hairpin),
    }
    received(listener)
    change(
        flush(Chain("spare")),
        delete(Chain("spare")),
        flush(ip.services),
        flush(Chain("masquerading")),
        delete(ip.hairpin),
    )
    removed = [event.subject for event in received(listener) if isinstance(event, Removed)]
    assert Name("rule", ip.table, "spare", handles["rule"]) in removed
    assert Name("chain", ip.table, "spare", handles["chain"]) in removed
    assert Name("set", ip.table, "hairpin", handles["set"]) in removed
    flushed = [each for each in removed if isinstance(each, SetElements)]
    assert [(each.set, each.elements[0].key) for each in flushed] == [("service-ips", ip.service().key)]


def test_a_flushed_ruleset_is_reported(ip: Skeleton, listener: Listener) -> None:
    pid = nft_program("flush", "ruleset")
    events = received(listener)
    names = [event.subject for event in events if isinstance(event, Removed)]
    assert names[-1] == Name("table", ip.table, "kpx", names[-1].handle)  # type: ignore[union-attr]
    assert sum(isinstance(name, Name) and name.kind == "rule" for name in names) == len(ip.rules)
    assert isinstance(events[-1], Committed)
    assert events[-1].pid == as_told(pid)


def test_our_own_changes_can_be_left_out(nft: Nft, ip: Skeleton, change: Apply) -> None:
    with Listener(ignored_port=nft.port) as listener:
        change(add(Elements(ip.services, [ip.service(port) for port in range(1, 20_000)])))
        assert listener.receive(0) == []
        nft_program("add", "chain", "ip", "kpx", "foreign")
        events = received(listener)
    assert [type(event) for event in events] == [Changed, Committed]


def test_only_the_ends_of_transactions(nft: Nft, ip: Skeleton, change: Apply) -> None:
    with Listener(only_commits=True) as listener:
        change(add(Elements(ip.services, [ip.service(port) for port in range(1, 20_000)])))
        change(flush(ip.services))
        events = received(listener)
    assert [event.generation for event in events if isinstance(event, Committed)] == [
        nft.generation() - 1,
        nft.generation(),
    ]
    assert len(events) == 2


def test_both_filters_together(nft: Nft, change: Apply) -> None:
    with Listener(ignored_port=nft.port, only_commits=True) as listener:
        change(add(Chain("ours")))
        pid = nft_program("add", "chain", "ip", "kpx", "foreign")
        assert received(listener) == [Committed(nft.generation(), as_told(pid), "nft")]


def test_a_loss_is_told(ip: Skeleton, change: Apply, listener: Listener) -> None:
    count = 60_000
    data, head = ip.backend(0, "10.42.0.1").data, ip.backend(0, "10.42.0.1").key[4:]
    elements = [Element(index.to_bytes(4, "big") + head, data, "c" * 100) for index in range(count)]
    change(add(Elements(ip.endpoints, elements)))
    with pytest.raises(Overrun):
        received(listener)
    received(listener)  # what is left of the flood
    change(add(Chain("afterwards")))
    assert [type(event) for event in received(listener)] == [Changed, Committed]


def test_nothing_happens(listener: Listener) -> None:
    assert listener.receive(0.01) == []
