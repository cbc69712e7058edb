"""An edit of the rules: what the restore program is to do, collected from the service ports that changed.

Pure. Nothing that an edit does not name is touched. Its parts come in an order that is safe in between: what refuses
packets in the filter table is there before the nat table stops translating them, and goes after it translates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kpx.proxier.iptables.render import Line, PortRules


@dataclass(slots=True)
class Edit:
    """Changes to chains and to lines of shared chains."""

    _rewritten: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    _deleted: dict[tuple[str, str], None] = field(default_factory=dict)
    _added: list[Line] = field(default_factory=list)
    _removed: list[Line] = field(default_factory=list)
    _last: list[Line] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._rewritten or self._deleted or self._added or self._removed or self._last)

    @classmethod
    def between(cls, before: PortRules, now: PortRules) -> Edit:
        """What takes one service port's rules from what they are to what they should be."""
        edit = cls()
        for chain, rules in now.chains.items():
            if before.chains.get(chain) != rules:
                edit.rewrite("nat", chain, rules)
        for chain in before.chains.keys() - now.chains.keys():
            edit.delete("nat", chain)
        had, wants = set(before.lines), set(now.lines)
        edit.add(line for line in now.lines if line not in had)
        edit.remove(line for line in before.lines if line not in wants)
        return edit

    @classmethod
    def merged(cls, edits: Iterable[Edit]) -> Edit:
        """Several edits as one."""
        whole = cls()
        for edit in edits:
            whole._rewritten |= edit._rewritten
            whole._deleted |= edit._deleted
            whole._added += edit._added
            whole._removed += edit._removed
            whole._last += edit._last
        return whole

    def rewrite(self, table: str, chain: str, rules: tuple[str, ...]) -> None:
        """Make a chain of ours, which may not exist, hold just these rules."""
        self._rewritten[table, chain] = rules

    def delete(self, table: str, chain: str) -> None:
        """Delete a chain of ours. Nothing may jump to it any more."""
        self._deleted[table, chain] = None

    def add(self, lines: Iterable[Line]) -> None:
        """Put lines, in this order, before all others of their chains."""
        self._added.extend(lines)

    def append(self, lines: Iterable[Line]) -> None:
        """Put lines, in this order, after all others of their chains."""
        self._last.extend(lines)

    def remove(self, lines: Iterable[Line]) -> None:
        """Delete lines that are there."""
        self._removed.extend(lines)

    @property
    def deleted(self) -> list[tuple[str, str]]:
        """The chains, by table and name, that are deleted: what fails if a foreign rule still jumps to one."""
        return list(self._deleted)

    def sparing(self, chains: Iterable[tuple[str, str]]) -> Edit:
        """The same edit, but these chains are emptied in place of deleted."""
        spared = set(chains)
        return replace(
            self,
            _rewritten=self._rewritten | dict.fromkeys(spared, ()),
            _deleted={key: None for key in self._deleted if key not in spared},
        )

    def count(self, table: str) -> int:
        """The number of rules that the edit writes into a table, without jumps from built-in chains."""
        chains = sum(len(rules) for key, rules in self._rewritten.items() if key[0] == table)
        lines = (*self._added, *self._last)
        return chains + sum(line.table == table and line.chain.startswith("KUBE-") for line in lines)

    def lines(self) -> Iterator[str]:
        """The restore input."""
        yield from self._section("mangle")
        yield from self._section("filter", removals=False)
        yield from self._section("nat")
        yield from self._section("filter", writes=False)

    def _section(self, table: str, *, writes: bool = True, removals: bool = True) -> Iterator[str]:
        body = [*(self._writes(table) if writes else ()), *(self._removals(table) if removals else ())]
        if body:
            yield f"*{table}"
            yield from body
            yield "COMMIT"

    def _writes(self, table: str) -> Iterator[str]:
        rewritten = [(chain, rules) for (in_table, chain), rules in self._rewritten.items() if in_table == table]
        yield from (f":{chain} - [0:0]" for chain, _ in rewritten)
        yield from (f"-A {chain} {rule}" for chain, rules in rewritten for rule in rules)
        # What is added is put in front, one by one: the last one first, so that they stand in order.
        yield from (f"-I {line.chain} {line.rule}" for line in reversed(self._added) if line.table == table)
        yield from (f"-A {line.chain} {line.rule}" for line in self._last if line.table == table)

    def _removals(self, table: str) -> Iterator[str]:
        yield from (f"-D {line.chain} {line.rule}" for line in self._removed if line.table == table)
        deleted = [chain for in_table, chain in self._deleted if in_table == table]
        yield from (f"-F {chain}" for chain in deleted)
        yield from (f"-X {chain}" for chain in deleted)
