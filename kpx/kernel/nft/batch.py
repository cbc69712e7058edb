"""A transaction as one netlink batch, and which operation (which element even) an error in it means.

Every message of a batch has its own sequence number. Only the last one asks for an acknowledgement: with one a message
the answers to a large batch overflow the socket's buffer, and are lost.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kpx.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    attribute,
    attributes,
    be32,
    message,
    messages,
    nested,
    text,
)
from kpx.kernel.nft.elements import Element, parse_elements, render_elements
from kpx.kernel.nft.objects import Chain, Rule, Table, render_chain, render_rule, render_table
from kpx.kernel.nft.sets import Set, render_set
from kpx.kernel.nft.transaction import Elements, Operation, Transaction, Verb
from kpx.kernel.nft.wire import (
    BATCH_BEGIN,
    BATCH_END,
    BATCH_GENERATION,
    LIST_ELEM,
    SUBSYSTEM,
    MessageType,
    TableName,
    be64,
    header,
)

_TABLE = 1  # NFTA_*_TABLE; a table's own name is 1 too
_SET, _ELEMENTS = 2, 3
_CHAIN_NAME = 3
_RULE_CHAIN, _RULE_HANDLE = 2, 3
_HEADER_BYTES = 16  # struct nlmsghdr

_FLAGS = {
    Verb.ADD: NLM_F_CREATE | NLM_F_APPEND,
    Verb.CREATE: NLM_F_CREATE | NLM_F_APPEND | NLM_F_EXCL,
    Verb.INSERT: NLM_F_CREATE,
    Verb.REPLACE: NLM_F_REPLACE,
    Verb.DELETE: 0,
    Verb.FLUSH: 0,
}
_NEW: dict[type[Any], MessageType] = {
    Table: MessageType.NEWTABLE,
    Chain: MessageType.NEWCHAIN,
    Rule: MessageType.NEWRULE,
    Set: MessageType.NEWSET,
    Elements: MessageType.NEWSETELEM,
}
_DELETE: dict[type[Any], MessageType] = {
    Table: MessageType.DELTABLE,
    Chain: MessageType.DELCHAIN,
    Rule: MessageType.DELRULE,
    Set: MessageType.DELSET,
    Elements: MessageType.DELSETELEM,
}
# What holds things is emptied by deleting those, without naming any.
_FLUSH: dict[type[Any], MessageType] = {
    Table: MessageType.DELRULE,
    Chain: MessageType.DELRULE,
    Set: MessageType.DELSETELEM,
}
_TYPES = {Verb.DELETE: _DELETE, Verb.FLUSH: _FLUSH}


@dataclass(frozen=True, slots=True)
class Batch:
    """The bytes of one datagram. Message `first` begins it; message `first` + 1 + i is of ``operations[i]``."""

    data: bytes
    first: int
    operations: tuple[Operation, ...]

    @property
    def last(self) -> int:
        """The sequence number of the message that is acknowledged."""
        return self.first + len(self.operations)

    def operation(self, sequence: int) -> Operation | None:
        """The operation that a message belongs to; None for the begin and end of the batch."""
        index = sequence - self.first - 1
        return self.operations[index] if 0 <= index < len(self.operations) else None

    def element(self, sequence: int, offset: int) -> Element | None:
        """The element that stands at a byte of a message, as the kernel points to it."""
        found = next((each for each in messages(self.data) if each.sequence == sequence), None)
        if found is None:
            return None
        listed = dict(attributes(found.payload[4:])).get(_ELEMENTS, memoryview(b""))
        start = offset - _HEADER_BYTES - len(found.payload) + len(listed)  # the list comes last
        pointed = next(attributes(listed[start:]), None) if start >= 0 else None
        return parse_elements(attribute(LIST_ELEM, bytes(pointed[1])))[0] if pointed else None


def encode(transaction: Transaction, first: int, *, generation: int | None = None, commit: bool = True) -> Batch:
    """The batch that does what a transaction says, numbered from `first`.

    With a `generation` the kernel refuses it (ERESTART) if the ruleset has changed since. Without `commit` it lacks its
    end: the kernel checks all of it and changes nothing.
    """
    expected = b"" if generation is None else be32(BATCH_GENERATION, generation)
    parts = [message(BATCH_BEGIN, NLM_F_REQUEST, first, header(0, SUBSYSTEM) + expected)]
    operations: list[Operation] = []
    head = header(transaction.table.family)
    for operation in transaction.operations:
        kind = _TYPES.get(operation.verb, _NEW)[type(operation.subject)].number
        flags = _FLAGS[operation.verb] | NLM_F_REQUEST
        for payload in _payloads(transaction.table, operation, len(parts)):
            parts.append(message(kind, flags, first + len(parts), head + payload))
            operations.append(operation)
    if operations:
        parts[-1] = _acknowledged(parts[-1])
    if commit:
        parts.append(message(BATCH_END, NLM_F_REQUEST, first + len(parts), header(0, SUBSYSTEM)))
    return Batch(b"".join(parts), first, tuple(operations))


def _acknowledged(data: bytes) -> bytes:
    """A message that asks for an acknowledgement."""
    (flags,) = struct.unpack_from("=H", data, 6)
    return data[:6] + struct.pack("=H", flags | NLM_F_ACK) + data[8:]


def _payloads(table: TableName, operation: Operation, identifier: int) -> Iterator[bytes]:
    """The attributes of each message that an operation takes: one, but for many elements."""
    subject = operation.subject
    if isinstance(subject, Elements):
        named = text(_TABLE, table.name) + text(_SET, subject.set.name)
        keys_only = operation.verb is Verb.DELETE
        for piece in render_elements(subject.elements, keys_only=keys_only):
            yield named + nested(_ELEMENTS, piece)
    elif operation.verb in _TYPES:
        yield _name(table, operation)
    else:
        yield _object(table, operation, identifier)


def _object(table: TableName, operation: Operation, identifier: int) -> bytes:
    subject = operation.subject
    if isinstance(subject, Table):
        return render_table(table, subject)
    if isinstance(subject, Chain):
        return render_chain(table, subject)
    if isinstance(subject, Set):
        return render_set(table, subject, identifier)
    if isinstance(subject, Rule):
        return render_rule(table, subject, operation.handle)
    raise TypeError(f"{subject!r} is no object of a table")


def _name(table: TableName, operation: Operation) -> bytes:
    """What names an object to remove, or to empty."""
    subject = operation.subject
    named = text(_TABLE, table.name)
    if isinstance(subject, Set):
        return named + text(_SET, subject.name)
    if isinstance(subject, Chain):
        return named + text(_RULE_CHAIN if operation.verb is Verb.FLUSH else _CHAIN_NAME, subject.name)
    if isinstance(subject, Rule):
        if operation.handle is None:
            raise ValueError(f"a rule of {subject.chain} can be deleted only by its handle")
        return named + text(_RULE_CHAIN, subject.chain) + be64(_RULE_HANDLE, operation.handle)
    return named
