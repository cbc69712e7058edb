"""nftables in the kernel: transactions applied, and what it holds read back."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kpx.kernel.netlink import (
    NETLINK_NETFILTER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    DumpInterrupted,
    Message,
    NetlinkError,
    Overrun,
    Refusal,
    Socket,
    attributes,
    message,
    messages,
    nested,
    refusal,
    text,
)
from kpx.kernel.nft.batch import Batch, encode
from kpx.kernel.nft.elements import Element, render_elements
from kpx.kernel.nft.entries import Entry, read_counters, read_elements, read_entry
from kpx.kernel.nft.errors import Failure, GenerationChanged, TransactionRefused
from kpx.kernel.nft.objects import Chain, Rule, Table
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.text import element_text
from kpx.kernel.nft.transaction import Elements, Transaction, describe
from kpx.kernel.nft.wire import MessageType, NfFamily, TableName, header, unsigned

T = TypeVar("T")

_ANSWER_SECONDS = 10.0
_ATTEMPTS = 20
_REHASH_SECONDS, _REHASH_PAUSE = 10.0, 0.005
_TABLE, _RULE_CHAIN, _SET, _RULE_HANDLE, _ELEMENTS = 1, 2, 2, 3, 3
# The answers to so many requests fit the buffer of a socket.
_ASKED_AT_ONCE = 64
_GENERATION_ID = 1
_CHAIN_HOOK = 4
# The type of that attribute as it stands in a message, with and without a flag: where neither is, it is not.
_HOOK_MARKS = (struct.pack("=H", _CHAIN_HOOK), struct.pack("=H", _CHAIN_HOOK | NLA_F_NESTED))


class Nft:
    """A connection to nftables in the network namespace of the thread that opens it. Not for several threads at once.

    A missing table, chain or set reads as an empty one.
    """

    def __init__(self) -> None:
        self._socket = Socket(NETLINK_NETFILTER)

    @property
    def port(self) -> int:
        """The netlink port that notifications of this connection's changes name."""
        return self._socket.port

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Nft:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def apply(self, transaction: Transaction, *, generation: int | None = None) -> None:
        """Do all of a transaction, or nothing.

        Raises `TransactionRefused`; with a `generation`, `GenerationChanged` if the ruleset has changed since.
        """
        self._send(transaction, generation, commit=True)

    def check(self, transaction: Transaction) -> None:
        """Let the kernel check a transaction without doing it. Raises `TransactionRefused`."""
        self._send(transaction, None, commit=False)

    def _send(self, transaction: Transaction, generation: int | None, *, commit: bool) -> None:
        batch = encode(transaction, self._socket.next_sequence(), generation=generation, commit=commit)
        self._socket.next_sequence(len(batch.operations) + 1)
        if not batch.operations:
            return
        self._socket.send(batch.data)
        refused = self._refusals(batch)
        if any(sequence == batch.first and error.code == errno.ERESTART for sequence, error in refused):
            raise GenerationChanged(f"{transaction.table}: the ruleset is no longer at generation {generation}")
        if refused:
            raise TransactionRefused(tuple(failure(transaction.table, batch, *each) for each in refused))

    def _refusals(self, batch: Batch) -> list[tuple[int, Refusal]]:
        """What the kernel answered, by message. It has done the batch when the send returns: the answers are there.

        The last message's comes last. It does not come if the batch was refused as a whole, which the first message's
        says, nor if there are more errors than the buffer holds: then those that are there have to do.
        """
        refused: list[tuple[int, Refusal]] = []
        answered = False
        while True:
            try:
                data = self._socket.receive(0 if answered else _ANSWER_SECONDS)
            except Overrun:
                answered = True
                continue
            if data is None:
                break
            for reply in messages(data):
                if reply.type != NLMSG_ERROR or not batch.first <= reply.sequence <= batch.last:
                    continue
                error = refusal(reply)
                if error is not None:
                    refused.append((reply.sequence, error))
                if reply.sequence == batch.last:
                    return refused
                answered = answered or reply.sequence == batch.first
        if not refused:
            raise NetlinkError(errno.ETIMEDOUT, "nftables transaction", "the kernel did not answer")
        return refused

    def generation(self) -> int:
        """The number of the ruleset's state; every change, by anyone, makes a new one."""
        (reply,) = self._socket.request(MessageType.GETGEN.number, 0, header(NfFamily.UNSPEC), "read the generation")
        return unsigned(dict(attributes(reply.payload[4:]))[_GENERATION_ID])

    def consistent(self, read: Callable[[], T]) -> tuple[int, T]:
        """What `read` makes of one single state of the ruleset, and that state's generation.

        It is called again while the ruleset changes under it. Raises `GenerationChanged` if it never holds still.
        """
        for _ in range(_ATTEMPTS):
            before = self.generation()
            found = read()
            if self.generation() == before:
                return before, found
        raise GenerationChanged(f"the ruleset changed during each of {_ATTEMPTS} attempts to read it")

    def tables(self) -> list[Entry[Table]]:
        """All tables."""
        return self._entries(MessageType.GETTABLE, NfFamily.UNSPEC, b"", "list the tables")

    def chains(self, table: TableName | None = None) -> list[Entry[Chain]]:
        """The chains of one table, or of all."""
        family = table.family if table else NfFamily.UNSPEC
        found = self._entries(MessageType.GETCHAIN, family, b"", "list the chains")
        return [entry for entry in found if table in (None, entry.table)]

    def base_chains(self, family: NfFamily) -> list[Entry[Chain]]:
        """The chains of a family that hang in a hook. What does not is passed over unread: it may be 100,000 chains."""
        return [
            read_entry(reply)
            for reply in self._dump(MessageType.GETCHAIN, family, b"", "list the base chains")
            if _hangs(reply.payload)
        ]

    def rules(self, table: TableName, chain: str | None = None) -> list[Entry[Rule]]:
        """The rules of a table or of one of its chains, in order."""
        named = text(_TABLE, table.name) + (text(_RULE_CHAIN, chain) if chain else b"")
        return self._entries(MessageType.GETRULE, table.family, named, f"list the rules of {table}")

    def handles(self, table: TableName, chain: str) -> list[int]:
        """The kernel's numbers for the rules of a chain, in order: much faster than to read the rules."""
        named = text(_TABLE, table.name) + text(_RULE_CHAIN, chain)
        replies = self._dump(MessageType.GETRULE, table.family, named, f"list the rules of {table}")
        return [unsigned(dict(attributes(reply.payload[4:]))[_RULE_HANDLE]) for reply in replies]

    def sets(self, table: TableName) -> list[Entry[Set]]:
        """The sets and maps of a table, without their elements."""
        named = text(_TABLE, table.name)
        return self._entries(MessageType.GETSET, table.family, named, f"list the sets of {table}")

    def declaration(self, table: TableName, name: str) -> Set | None:
        """One set or map, or None if there is none of that name."""
        named = header(table.family) + text(_TABLE, table.name) + text(_SET, name)
        try:
            replies = self._socket.request(MessageType.GETSET.number, 0, named, f"read the set {table} {name}")
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        found: Set = read_entry(replies[0]).value
        return found

    def elements(self, table: TableName, name: str) -> list[Element]:
        """The elements of a set or map, in no order.

        The kernel dumps a set in pieces and counts from its begin for each: while it rehashes the set, as it does for
        some milliseconds after many elements came or went, a dump has some elements twice in place of others. Then it
        is read again; raises `NetlinkError` (EAGAIN) if that does not end within seconds.
        """
        named = text(_TABLE, table.name) + text(_SET, name)
        what = f"list the elements of {table} {name}"
        deadline = time.monotonic() + _REHASH_SECONDS
        while time.monotonic() < deadline:
            replies = self._dump(MessageType.GETSETELEM, table.family, named, what)
            found = [element for reply in replies for element in read_elements(reply).elements]
            if all_different(found):
                return found
            time.sleep(_REHASH_PAUSE)
        raise NetlinkError(errno.EAGAIN, what, "the kernel does not stop rehashing the set")

    def counters(self, table: TableName, name: str) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, data and counted packets of the elements of a map that counts, in no order, and for a screen.

        Elements may be missing, or there twice, if the map changes meanwhile.
        """
        named = text(_TABLE, table.name) + text(_SET, name)
        for reply in self._dump(MessageType.GETSETELEM, table.family, named, f"list the counters of {table} {name}"):
            yield from read_counters(reply)

    def counters_of(self, table: TableName, name: str, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
        """The same of the elements with these keys alone; those that are not there are passed over."""
        named = header(table.family) + text(_TABLE, table.name) + text(_SET, name)
        for start in range(0, len(keys), _ASKED_AT_ONCE):
            part = keys[start : start + _ASKED_AT_ONCE]
            first = self._socket.next_sequence(len(part))
            last = first + len(part) - 1
            self._socket.send(b"".join(_asking(named, key, first + at, last) for at, key in enumerate(part)))
            for reply in self._answers(first, last):
                yield from read_counters(reply)

    def _answers(self, first: int, last: int) -> Iterator[Message]:
        """What is answered to several requests, up to the word on the last one."""
        while (data := self._socket.receive(_ANSWER_SECONDS)) is not None:
            for reply in messages(data):
                if reply.type != NLMSG_ERROR and first <= reply.sequence <= last:
                    yield reply
                elif reply.sequence == last:
                    return

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        """One element of a set or map, or None. In a set of intervals, the begin of the one that holds the key."""
        (asked,) = render_elements((Element(key),))
        named = header(table.family) + text(_TABLE, table.name) + text(_SET, name) + nested(_ELEMENTS, asked)
        try:
            replies = self._socket.request(
                MessageType.GETSETELEM.number, 0, named, f"read an element of {table} {name}"
            )
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return read_elements(replies[0]).elements[0]

    def dumped(self) -> Iterator[Message]:
        """All that there is, as the kernel says it: tables, chains, rules, sets, and the elements of each set."""
        for kind in (MessageType.GETTABLE, MessageType.GETCHAIN, MessageType.GETRULE):
            yield from self._dump(kind, NfFamily.UNSPEC, b"", "list the ruleset")
        for table in [entry.table for entry in self.tables()]:
            named = text(_TABLE, table.name)
            yield from self._dump(MessageType.GETSET, table.family, named, f"list the sets of {table}")
            for declared in self.sets(table):
                of_set = named + text(_SET, declared.value.name)
                what = f"list the elements of {table} {declared.value.name}"
                yield from self._dump(MessageType.GETSETELEM, table.family, of_set, what)

    def _entries(self, kind: MessageType, family: NfFamily, named: bytes, what: str) -> list[Entry[Any]]:
        return [read_entry(reply) for reply in self._dump(kind, family, named, what)]

    def _dump(self, kind: MessageType, family: NfFamily, named: bytes, what: str) -> Iterator[Message]:
        """All replies to a dump. They may be of several states of the ruleset: `consistent` finds that out."""
        try:
            yield from self._socket.dump(kind.number, header(family) + named, what)
        except DumpInterrupted:
            return
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise


def _hangs(chain: memoryview) -> bool:
    """Whether a chain hangs in a hook; the attributes of one that may are looked at, of others not."""
    raw = bytes(chain)
    return any(mark in raw for mark in _HOOK_MARKS) and any(kind == _CHAIN_HOOK for kind, _ in attributes(chain[4:]))


def _asking(named: bytes, key: bytes, sequence: int, last: int) -> bytes:
    """A request for one element; only the last of several is acknowledged."""
    (asked,) = render_elements((Element(key),))
    flags = NLM_F_REQUEST | (NLM_F_ACK if sequence == last else 0)
    return message(MessageType.GETSETELEM.number, flags, sequence, named + nested(_ELEMENTS, asked))


def all_different(elements: list[Element]) -> bool:
    """Whether no element is there twice."""
    if len({element.key for element in elements}) == len(elements):
        return True
    return len({(element.key, element.key_end, element.flags) for element in elements}) == len(elements)


def failure(table: TableName, batch: Batch, sequence: int, error: Refusal) -> Failure:
    """What the kernel refused of a batch, named as exactly as its answer allows."""
    operation = batch.operation(sequence)
    if operation is None:
        return Failure(f"transaction on {table}", error.code, error.detail)
    subject = operation.subject
    if not isinstance(subject, Elements):
        return Failure(describe(table, operation), error.code, error.detail)
    element = None if error.offset is None else batch.element(sequence, error.offset)
    content = element_text(subject.set, element) if element else f"some of {len(subject.elements)}"
    what = f"{operation.verb.value} element {table} {subject.set.name} {{ {content} }}"
    return Failure(what, error.code, error.detail)
