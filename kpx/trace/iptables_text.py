"""A rule as ``iptables-save`` or ``iptables -S`` prints it -> its matches and its target. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_LISTED_COUNTER = re.compile(r"(?:^| )-c (\d+) \d+(?: |$)")
_COUNTER = re.compile(r"\[(\d+):(\d+)\] ")


class Option(NamedTuple):
    """An option with its values: ``! -s 10.0.0.0/8`` is negated."""

    name: str
    values: tuple[str, ...]
    negated: bool = False

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    def __str__(self) -> str:
        return " ".join(filter(None, ("!" if self.negated else "", self.name, *self.values)))


@dataclass(frozen=True, slots=True)
class Match:
    """A match: its module, empty for what every rule may have (``-s``, ``-p``, ...), and its options."""

    module: str
    options: tuple[Option, ...] = ()

    def option(self, name: str) -> Option | None:
        return next((one for one in self.options if one.name == name), None)

    def __str__(self) -> str:
        return " ".join([*(["-m", self.module] if self.module else []), *map(str, self.options)])


@dataclass(frozen=True, slots=True)
class Parsed:
    """A rule: ``target`` is a chain or an extension, empty for a rule that only counts."""

    matches: tuple[Match, ...] = ()
    target: str = ""
    options: tuple[Option, ...] = ()
    goto: bool = False

    def option(self, name: str) -> Option | None:
        return next((one for one in self.options if one.name == name), None)


class Line(NamedTuple):
    """A printed rule taken apart as far as is cheap: without its chain and its counter."""

    chain: str
    rule: str
    packets: int | None


def split_line(line: str) -> Line:
    """``[3:180] -A CHAIN ...``, or ``-A CHAIN ... -c 3 180 ...``."""
    packets = None
    if found := _COUNTER.match(line):
        packets, line = int(found[1]), line[found.end() :]
    _, chain, *rest = line.split(" ", 2)
    rule = rest[0] if rest else ""
    if packets is None and " -c " in f" {rule}":
        *_, counter = _LISTED_COUNTER.finditer(rule)
        packets = int(counter[1])
        rule = f"{rule[: counter.start()]} {rule[counter.end() :]}".strip()
    return Line(chain, rule, packets)


class _Tokens:
    def __init__(self, rule: str) -> None:
        self._tokens = [
            (_ESCAPED.sub(r"\1", quoted), True) if not bare else (bare, False) for quoted, bare in _TOKEN.findall(rule)
        ]
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._tokens)

    def take(self) -> str:
        token = self._tokens[self._at][0] if self else ""
        self._at += 1
        return token

    def values(self, name: str) -> tuple[str, ...]:
        """What belongs to an option: all up to the next one."""
        if name == "--comment":
            return (self.take(),)
        found = []
        while self and (self._tokens[self._at][1] or not _begins_option(self._tokens[self._at][0])):
            found.append(self.take())
        return tuple(found)


def _begins_option(token: str) -> bool:
    return token == "!" or (token.startswith("-") and not token[1:2].isdigit())


def parse(rule: str) -> Parsed:
    """The parts of a rule. Whatever the options are, nothing of it is lost."""
    tokens = _Tokens(rule)
    matches: list[tuple[str, list[Option]]] = []
    target, goto = "", False
    options: list[Option] = []
    for name, negated in _options(tokens):
        if name in ("-j", "-g"):
            target, goto = tokens.take(), name == "-g"
            options = [Option(each, tokens.values(each), no) for each, no in _options(tokens)]
        elif name == "-m":
            matches.append((tokens.take(), []))
        elif name.startswith("--") and matches and matches[-1][0]:
            matches[-1][1].append(Option(name, tokens.values(name), negated))
        else:
            matches.append(("", [Option(name, tokens.values(name), negated)]))
    return Parsed(tuple(Match(module, tuple(found)) for module, found in matches), target, tuple(options), goto)


def _options(tokens: _Tokens) -> Iterator[tuple[str, bool]]:
    while tokens:
        token = tokens.take()
        yield (tokens.take(), True) if token == "!" else (token, False)
