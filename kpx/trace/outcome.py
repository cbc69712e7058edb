"""What a rule does with a packet, whatever language the rule is written in.

A rule that is left to chance, or to what cannot be known, has several outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from kpx.trace.packet import Packet


class Verb(Enum):
    """How it goes on after a rule."""

    NEXT = "next"
    JUMP = "jump"
    GOTO = "goto"
    RETURN = "return"
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    STOP = "stop"  # something that is not modelled: the walk ends here


class Condition(Enum):
    """What an outcome depends on that a trace cannot know."""

    HISTORY = "history"  # what the client did before: session affinity
    UNKNOWN = "unknown"  # a match that is not evaluated


@dataclass(frozen=True, slots=True)
class Assumption:
    """That a rule matches, although it is not known whether it does."""

    condition: Condition
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way on from a rule.

    ``share`` is the part of all packets that go this way, None where that is not known. ``matched`` says whether the
    rule matched. ``note`` is what it did, or why it did not match; ``near`` marks a rule that matched but for one of
    its fields, which is worth showing.
    """

    verb: Verb
    packet: Packet
    matched: bool = True
    chain: str = ""
    share: float | None = 1.0
    note: str = ""
    near: bool = False
    effective: bool = False
    assumes: Assumption | None = None


class Rule(Protocol):
    """A rule of a chain."""

    @property
    def text(self) -> str:
        """As its own program prints it."""

    @property
    def packets(self) -> int | None:
        """How many packets its counter has seen; None without one."""

    def outcomes(self, packet: Packet) -> Sequence[Outcome]:
        """All ways on for a packet; their shares add up to 1, those under an assumption apart."""


@dataclass(frozen=True, slots=True)
class Base:
    """A chain that hangs in a hook, or what else does. ``table`` is as people write it: ``inet filter``.

    Chains of one ``priority`` are asked in the order of ``order``. ``nat`` chains are asked once for a flow.
    """

    hook: Hook
    table: str
    chain: str
    priority: int
    nat: bool = False
    accepts: bool = True
    order: int = 0
    kind: str = "nftables"


class Hook(Enum):
    """The five places where netfilter looks at a packet of the node."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"


class Rules(Protocol):
    """The rules of a node, in one family."""

    def bases(self, hook: Hook) -> Sequence[Base]:
        """What hangs in a hook, in any order."""

    def chain(self, base: Base, name: str) -> Sequence[Rule]:
        """The rules of a chain in the table of a base chain."""
