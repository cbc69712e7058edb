"""An edit of the rules: what the restore program is to do, collected from the service ports that changed.

Pure. Nothing that an edit does not name is touched. Its parts come in an order that is safe in between: what refuses
packets in the filter table is there before the nat table stops translating them, and goes after it translates them.
What drops senders that a Service does not accept is the exception: it waits for the nat table, which lets all others
by. As long as virtual servers of IPVS still serve the address instead, it would drop those too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kpx.proxier.iptables import names
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
    def tables(self) -> set[str]:
        """The tables that are written to."""
        lines = (*self._added, *self._removed, *self._last)
        return {table for table, _ in (*self._rewritten, *self._deleted)} | {line.table for line in lines}

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

    @staticmethod
    def restore_input(edits: Iterable[Edit]) -> Iterator[str]:
        """The restore input of edits, each of which is taken when the lines of those before it are written.

        Only the first may concern other tables than nat: what comes before nat has to be known by then.
        """
        rest = iter(edits)
        first = next(rest, Edit())
        yield from _section("mangle", first._writes("mangle"), first._removals("mangle"))
        yield from _section("filter", first._writes("filter", but=names.PROXY_FIREWALL))
        yield from _section("nat", first._writes("nat"), first._removals("nat"), _nat(rest))
        yield from _section("filter", first._puts("filter", of=names.PROXY_FIREWALL), first._removals("filter"))

    def _writes(self, table: str, but: str = "") -> Iterator[str]:
        """All that is written, `but` to a chain whose lines are put there later."""
        # The legacy program keeps chains sorted, and looks from the front for the place of a new one, and for the chain
        # of a rule: half of its time, if they come in no order.
        rewritten = sorted(
            ((chain, rules) for (of, chain), rules in self._rewritten.items() if of == table), reverse=True
        )
        yield from (f":{chain} - [0:0]" for chain, _ in rewritten)
        yield from (f"-A {chain} {rule}" for chain, rules in rewritten for rule in rules)
        yield from self._puts(table, but=but)
        yield from (f"-A {line.chain} {line.rule}" for line in self._last if line.table == table)

    def _puts(self, table: str, *, of: str = "", but: str = "") -> Iterator[str]:
        """What is put in front, one by one: the last one first, so that they stand in order."""
        for line in reversed(self._added):
            if line.table == table and line.chain != but and of in ("", line.chain):
                yield f"-I {line.chain} {line.rule}"

    def _removals(self, table: str) -> Iterator[str]:
        yield from (f"-D {line.chain} {line.rule}" for line in self._removed if line.table == table)
        deleted = [chain for in_table, chain in self._deleted if in_table == table]
        yield from (f"-F {chain}" for chain in deleted)
        yield from (f"-X {chain}" for chain in deleted)


def _nat(edits: Iterable[Edit]) -> Iterator[str]:
    for edit in edits:
        assert edit.tables <= {"nat"}
        yield from edit._writes("nat")
        yield from edit._removals("nat")


def _section(table: str, *parts: Iterable[str]) -> Iterator[str]:
    begun = False
    for lines in parts:
        for line in lines:
            if not begun:
                yield f"*{table}"
                begun = True
            yield line
    if begun:
        yield "COMMIT"
