"""What ``iptables-save`` prints -> tables and chains, small enough to compare 200,000 rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Chain:
    """A chain: how many rules it has, a digest of their text, and the text itself where it was asked for.

    Rules are without their chain's name. Digests compare within one process only.
    """

    count: int = 0
    digest: int = 0
    rules: list[str] | None = None

    def add(self, rule: str) -> None:
        self.count += 1
        self.digest = hash((self.digest, rule))
        if self.rules is not None:
            self.rules.append(rule)


def digest(rules: Iterable[str]) -> int:
    """The digest of a chain with these rules."""
    value = 0
    for rule in rules:
        value = hash((value, rule))
    return value


Table = dict[str, Chain]


@dataclass(slots=True)
class Tables:
    """The tables of one family, by name, and their chains, by name."""

    tables: dict[str, Table] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """A table's chains; none if the table does not exist."""
        return self.tables.get(name, {})

    def rules(self, table: str, chain: str) -> list[str]:
        """The rules of a chain whose text was kept; none if it does not exist."""
        found = self.table(table).get(chain)
        return (found.rules or []) if found else []


def parse(lines: Iterable[str], keep: Callable[[str], bool]) -> Tables:
    """Read the output of ``iptables-save``; the text of rules is kept for the chains that `keep` accepts."""
    found = Tables()
    table: Table = {}
    for line in lines:
        match line[:1]:
            case "-":
                _, name, rule = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" ", 1), "")
                # Version 1.8.9 prints two spaces where the counter's match may be negated.
                table[name].add(rule.replace("--nfacct-name  ", "--nfacct-name ") if "nfacct" in rule else rule)
            case ":":
                name = line[1 : line.index(" ")]
                table[name] = Chain(rules=[] if keep(name) else None)
            case "*":
                table = found.tables.setdefault(line[1:], {})
            case _:
                pass  # comments and COMMIT
    return found
