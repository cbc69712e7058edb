"""What rules amount to for one service port, as facts that are the same in every mode's language.

Each mode reads the rules that it would make and those that the kernel holds in the same way; two readings are compared
fact by fact, so that a comment, an order without effect or a newer program's spelling is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Aspect(Enum):
    """What a fact is about; the value is its name in JSON."""

    ADDRESS = "address"
    ENDPOINT = "endpoint"
    BALANCE = "balance"
    POLICY = "policy"
    REFUSAL = "refusal"
    AFFINITY = "affinity"
    MASQUERADE = "masquerade"
    HAIRPIN = "hairpin"
    SOURCES = "sources"
    HEALTH_CHECK = "health-check"
    RULE = "rule"
    BASE = "base"
    TRANSLATED = "translated-by-others"
    DROPPED = "dropped-by-others"
    REJECTED = "rejected-by-others"

    # Members are part of many keys, and Enum's own is a function of Python that hashes the name.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Fact:
    """What holds for a subject, and the place in the kernel that says so (the rule there, where it is one)."""

    value: str
    where: str
    rule: str = ""


Facts = dict[tuple[Aspect, str], Fact]
