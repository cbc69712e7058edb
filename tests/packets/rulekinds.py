"""Kinds of iptables rules, and restore input without one: what a scenario passes without, it does not show.

A kind is a rule's chain, what it matches by (not the values) and where it leads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_HASH = re.compile(r"-[A-Z2-7]{16}$")
_COMMENT = re.compile(r'-m comment --comment ("(\\.|[^"\\])*"|\S+) ?')
_OPTION = re.compile(r"(! )?(?:(?<=\s)|^)(-{1,2}[a-z][a-z-]*)")
_TARGET = re.compile(r"-j (\S+)")
# Options that every rule of a kind has or that say the same as others, and those of the tcp and udp matches.
_DULL = {
    *("-m", "-p", "-j", "-g", "--mode", "--mask", "--rsource", "--name", "--seconds", "--reap", "--reject-with"),
    "--nfacct-name",  # only where the kernel can count packets so
}


def kind(table: str, line: str) -> str:
    """The kind of a rule in restore input, such as ``nat KUBE-EXT --src-type => KUBE-MARK-MASQ``."""
    _, chain, rule = [*line.split(" ", 2), ""][:3]
    rule = _COMMENT.sub("", rule)
    matches, _, _ = rule.partition("-j ")
    options = [f"{no}{option}" for no, option in _OPTION.findall(matches) if option not in _DULL]
    target = _TARGET.search(rule)
    return " ".join([table, _HASH.sub("", chain), *options, "=>", _HASH.sub("", target[1]) if target else "nowhere"])


def kinds(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each line of restore input with its kind, which is empty for lines that are no rules."""
    table = ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        yield (kind(table, line) if line[:2] in ("-A", "-I", "-D") else ""), line


def without(lines: Iterable[str], left_out: str) -> list[str]:
    """Restore input without the rules of one kind."""
    return [line for found, line in kinds(lines) if found != left_out]
