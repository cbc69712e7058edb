"""What a trace finds: data for the screen, for JSON, for doctor and for tests. Pure, and without a word of layout."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kpx.trace.target import Target


class Result(Enum):
    """What a rule made of the packet."""

    MATCHED = "matched"
    MISSED = "missed"
    UNKNOWN = "not evaluated"
    POLICY = "policy"
    ROUTED = "routed"


@dataclass(frozen=True, slots=True)
class Hop:
    """One rule, chain policy, routing decision or virtual server on the path.

    ``note`` says what it did, or which field did not match. ``packets`` is its counter, None without one. ``telling``
    marks what a reader wants to see: the others matched and changed nothing, or did not match.
    """

    hook: str
    table: str
    chain: str
    rule: str
    result: Result
    note: str = ""
    packets: int | None = None
    telling: bool = True


class Verdict(Enum):
    """What becomes of the packet."""

    SENT = "sent"  # it leaves the node
    DELIVERED = "delivered"  # a process of the node gets it
    REJECTED = "rejected"  # its sender is told so
    DROPPED = "dropped"  # its sender is told nothing
    UNDECIDED = "undecided"  # the trace cannot say


@dataclass(frozen=True, slots=True)
class Ending:
    """How a path ends, and why, in words.

    ``destination`` and ``port`` are where the packet goes to at last, ``source`` whom the receiver sees: empty where
    that is not known. ``masqueraded`` says that it is not the sender's own address. ``astray``: a translated packet
    goes out where it came in, with its sender's address, so that the answer may pass this node by.
    """

    verdict: Verdict
    reason: str
    destination: str
    port: int
    source: str
    translated: bool = False
    masqueraded: bool = False
    random_port: bool = False
    astray: bool = False
    interface: str = ""
    hook: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """One path of the packet from where paths part.

    ``share`` is the part of all packets that take it, None where that is not known; ``remembered`` that it is for
    clients with session affinity who were here before. ``unknown`` are the rules that must match for it, and of which
    it is not known whether they do.
    """

    share: float | None
    remembered: bool
    unknown: tuple[str, ...]
    hops: tuple[Hop, ...]
    ending: Ending


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends the packet: ``kind`` is pod, node or external; ``interface`` where it comes in (the node's: none)."""

    kind: str
    address: str
    interface: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """All that a trace found: the hops that every path has, and the branches after them.

    ``proxies`` says whose rules of Services the node has. ``affinity``: a client goes where it went before.
    """

    target: Target
    sender: Sender
    destination: str
    proxies: tuple[str, ...]
    hops: tuple[Hop, ...]
    branches: tuple[Branch, ...]
    affinity: bool = False
    notes: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether every path is known for sure."""
        return not any(branch.unknown or branch.ending.verdict is Verdict.UNDECIDED for branch in self.branches)
