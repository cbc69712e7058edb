"""A ruleset as the kernel's own answers, kept: recorded on a node, and read again anywhere without a kernel."""

from __future__ import annotations

from collections.abc import Iterator

from kpx.kernel.netlink import Message, attributes, message, messages, string
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.intervals import found
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import MessageType, NfFamily, TableName

_TABLE, _NAMED = 1, 2  # the name of the table, and of a rule's chain or an element's set, in every message
_NO_TABLE = ""


def record(nft: Nft) -> bytes:
    """The whole ruleset of one single state: netlink messages, one after the other. Raises `GenerationChanged`."""
    _, data = nft.consistent(lambda: b"".join(_raw(one) for one in nft.dumped()))
    return data


def _raw(one: Message) -> bytes:
    return message(one.type, one.flags, one.sequence, bytes(one.payload))


class RecordedNft(Nft):
    """`Nft` of a record. It can only be read."""

    def __init__(self, data: bytes) -> None:
        self._by_table: dict[tuple[int, int, str], list[Message]] = {}
        self._by_name: dict[tuple[int, int, str, str], list[Message]] = {}
        self._declared: dict[TableName, dict[str, Set]] = {}
        self._held: dict[tuple[TableName, str], dict[bytes, Element]] = {}
        for one in messages(data):
            self._file(one)

    def _file(self, one: Message) -> None:
        kind, family = one.type & 0xFF, one.payload[0]
        values = dict(attributes(one.payload[4:]))
        table = string(values[_TABLE])
        for of_family in (family, NfFamily.UNSPEC):
            for of_table in (table, _NO_TABLE):
                self._by_table.setdefault((kind, of_family, of_table), []).append(one)
        if kind in (MessageType.NEWRULE, MessageType.NEWSETELEM):
            self._by_name.setdefault((kind, family, table, string(values[_NAMED])), []).append(one)

    def close(self) -> None:
        """Nothing was opened."""

    def generation(self) -> int:
        return 0

    def declaration(self, table: TableName, name: str) -> Set | None:
        if table not in self._declared:
            self._declared[table] = {entry.value.name: entry.value for entry in self.sets(table)}
        return self._declared[table].get(name)

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        declared = self.declaration(table, name)
        if declared is None:
            return None
        if (table, name) not in self._held:
            self._held[table, name] = {one.key: one for one in self.elements(table, name)}
        return found(declared, self._held[table, name], key)

    def _dump(self, kind: MessageType, family: NfFamily, named: bytes, what: str) -> Iterator[Message]:
        answer = kind - 1  # NFT_MSG_NEW* is the number before NFT_MSG_GET*
        names = {number: string(value) for number, value in attributes(memoryview(named))}
        table = names.get(_TABLE, _NO_TABLE)
        if _NAMED in names:
            return iter(self._by_name.get((answer, family, table, names[_NAMED]), ()))
        return iter(self._by_table.get((answer, family, table), ()))
