"""What a live trace finds: flows, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from kpx.net import join_port
from kpx.trace.result import Hop


class Outcome(Enum):
    """What became of a flow's first packet."""

    ANSWERED = "answered"
    REFUSED = "refused"  # whom it reached has reset the connection
    ANSWER_LOST = "answer lost"  # an answer came to this node, and did not leave it
    UNANSWERED = "unanswered"  # it left, and no answer came by in time
    REJECTED = "rejected"  # a rule has ended its way and told its sender
    DROPPED = "dropped"  # a rule has ended its way and told nobody
    LOST = "lost"  # it did not leave, but no rule has ended its way


class End(NamedTuple):
    """One end of a flow."""

    address: str
    port: int

    def __str__(self) -> str:
        return join_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that was seen from its first packet on.

    ``client`` sent it to ``target`` (called ``name``, if that was found by one); ``backend`` is where it went in truth,
    and ``source`` as whom the backend sees the client: None where that is not known, since it has never left. ``at`` is
    in seconds since 1970, ``incoming`` the interface that it came in by (the node's own: none). ``packets`` counts the
    first packet and its repetitions. ``reason`` says in words why it went as it did, where there is something to say.
    ``answer_hops`` is the way of the first answer, where it was followed.
    """

    at: float
    protocol: str
    client: End
    target: End
    outcome: Outcome
    name: str = ""
    backend: End | None = None
    source: End | None = None
    incoming: str = ""
    reason: str = ""
    packets: int = 1
    hops: tuple[Hop, ...] = ()
    answer_hops: tuple[Hop, ...] = ()

    @property
    def translated(self) -> bool:
        """Whether its destination was changed."""
        return self.backend is not None and self.backend != self.target

    @property
    def masqueraded(self) -> bool:
        """Whether the backend sees another address or port than the client's own."""
        return self.source is not None and self.source != self.client
