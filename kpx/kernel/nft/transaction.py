"""A change to one table as a value: what is to be done, in order; all of it happens, or nothing.

``Transaction(table, (add(chain), add(rule), add(Elements(services, (element,)))))`` is printed with `str` and given
to `connection.Nft.apply`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.objects import Chain, Rule, Table
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.text import chain_text, elements_text, rule_text, set_text, table_text
from kpx.kernel.nft.wire import TableName


class Verb(Enum):
    """What to do. ADD leaves alone what is there, CREATE refuses it; INSERT puts a rule first in its chain."""

    ADD = "add"
    CREATE = "create"
    INSERT = "insert"
    REPLACE = "replace"
    DELETE = "delete"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Elements:
    """Some elements of a set."""

    set: Set
    elements: Sequence[Element]


Subject = Table | Chain | Rule | Set | Elements


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do; `handle` is the kernel's number of the rule to replace or delete."""

    verb: Verb
    subject: Subject
    handle: int | None = None


def add(subject: Subject) -> Operation:
    """Make it if it is not there; a rule goes to its chain's end."""
    return Operation(Verb.ADD, subject)


def create(subject: Subject) -> Operation:
    """Make it; an error (EEXIST) if it is there."""
    return Operation(Verb.CREATE, subject)


def insert(rule: Rule) -> Operation:
    """Put a rule at its chain's begin."""
    return Operation(Verb.INSERT, rule)


def replace(rule: Rule, handle: int) -> Operation:
    """Put a rule in the place of another of the same chain."""
    return Operation(Verb.REPLACE, rule, handle)


def delete(subject: Subject, handle: int | None = None) -> Operation:
    """Remove it with all that it holds, or the rule with that handle; an error (ENOENT) if it is not there."""
    return Operation(Verb.DELETE, subject, handle)


def destroy(subject: Table | Chain | Set) -> tuple[Operation, Operation]:
    """Remove it, whether it is there or not (kernels before 6.3 have no message for that: it is made and deleted)."""
    return add(subject), delete(subject)


def flush(subject: Table | Chain | Set) -> Operation:
    """Remove a table's or a chain's rules, or a set's elements."""
    return Operation(Verb.FLUSH, subject)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Operations on one table, in order."""

    table: TableName
    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        """The same in nft's language, a line an operation; `nft -f` would read it."""
        return "".join(f"{describe(self.table, operation)}\n" for operation in self.operations)


def describe(table: TableName, operation: Operation) -> str:
    """One operation on a table, in nft's language."""
    words = [operation.verb.value, kind_of(operation.subject), str(table)]
    removes = operation.verb in (Verb.DELETE, Verb.FLUSH)
    words += _named(operation) if removes else _whole(table, operation)
    return " ".join(word for word in words if word)


def kind_of(subject: Subject) -> str:
    """What nft calls it."""
    if isinstance(subject, Set):
        return "map" if subject.data else "set"
    return {Table: "table", Chain: "chain", Rule: "rule", Elements: "element"}[type(subject)]


def _named(operation: Operation) -> Iterator[str]:
    """What names the subject of an operation that removes it."""
    subject = operation.subject
    if isinstance(subject, (Chain, Set)):
        yield subject.name
    elif isinstance(subject, Rule):
        yield f"{subject.chain} handle {operation.handle}"
    elif isinstance(subject, Elements):
        bare = [Element(each.key, key_end=each.key_end, flags=each.flags) for each in subject.elements]
        yield _elements(subject.set, bare)


def _whole(table: TableName, operation: Operation) -> Iterator[str]:
    """The subject of an operation that makes it."""
    subject = operation.subject
    if isinstance(subject, Table):
        yield table_text(subject)
    elif isinstance(subject, Chain):
        yield chain_text(subject)
    elif isinstance(subject, Set):
        yield set_text(subject)
    elif isinstance(subject, Elements):
        yield _elements(subject.set, subject.elements)
    else:
        yield subject.chain
        if operation.handle is not None:
            yield f"handle {operation.handle}"
        yield rule_text(table.family, subject)


def _elements(owner: Set, elements: Sequence[Element]) -> str:
    return f"{owner.name} {{ {', '.join(elements_text(owner, elements))} }}"
