"""A flow of which not all is known yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from kpx.kernel.conntrack import SEEN_REPLY, Tuple
from kpx.kernel.conntrack import Flow as Entry
from kpx.kernel.headers import TCP, Headers
from kpx.trace.live.met import Met


@dataclass(slots=True)
class Open:
    """A flow, by its first packet's headers.

    ``met`` is that packet's way, ``back`` the way of the first answer. ``entry`` is what conntrack has announced of the
    flow, ``gone`` that it has forgotten it; ``found`` is what it holds, where that was looked up. The packets that each
    way of reporting has told of are counted, and only the first one's way is kept.
    """

    first: Headers
    at: float
    incoming: int = 0
    met: list[Met] = field(default_factory=list)
    back: list[Met] = field(default_factory=list)
    entry: Entry | None = None
    found: Entry | None = None
    flow_id: int = 0
    gone: bool = False
    marked: int = 0
    logged: int = 0
    answers: int = 0

    @property
    def key(self) -> Tuple:
        return key_of(self.first)

    @property
    def known(self) -> Entry | None:
        """What conntrack says of it, however it was asked."""
        return self.entry or self.found

    @property
    def packets(self) -> int:
        return max(self.marked, self.logged, 1)

    @property
    def ended(self) -> Met | None:
        """The rule or policy that has ended the packet's way."""
        return next((one for one in self.met if one.ends), None)

    @property
    def ended_back(self) -> Met | None:
        """The rule or policy that has ended the answer's way."""
        return next((one for one in self.back if one.ends), None)

    @property
    def answered(self) -> bool:
        """Whether an answer has left for the client. Conntrack announces it then, not when the answer has come."""
        return _replied(self.entry) or (self.entry is None and _replied(self.found))

    @property
    def answer_came(self) -> bool:
        """Whether an answer has come to this node."""
        return _replied(self.entry) or _replied(self.found) or bool(self.back)

    @property
    def refused(self) -> bool:
        """The kernel forgets a connection that is reset in answer to its first segment, and at once."""
        return self.gone and self.first.protocol == TCP and self.entry is not None and not self.answered

    def due(self, now: float, patience: float) -> bool:
        """Whether there is nothing more to wait for, or no more patience."""
        return bool(self.ended or self.ended_back) or self.answered or self.refused or now - self.at >= patience

    def sent(self) -> Tuple | None:
        """Its packets as its backend gets them."""
        return None if self.known is None else _turned(self.known.reply)

    def answered_by(self, answer: Tuple) -> bool:
        """Whether a packet is an answer: as the backend sends it, as its client gets it, or translated by half."""
        if self.known is None or answer.protocol != self.first.protocol:
            return False
        reply, original = self.known.reply, self.known.original
        senders = (reply.source, reply.source_port), (original.destination, original.destination_port)
        receivers = (reply.destination, reply.destination_port), (original.source, original.source_port)
        return (answer.source, answer.source_port) in senders and (
            answer.destination,
            answer.destination_port,
        ) in receivers


def key_of(headers: Headers) -> Tuple:
    """The flow of a packet, as conntrack names it."""
    return Tuple(headers.protocol, headers.source, headers.source_port, headers.destination, headers.destination_port)


def _turned(flow: Tuple) -> Tuple:
    """The other direction."""
    return Tuple(flow.protocol, flow.destination, flow.destination_port, flow.source, flow.source_port)


def _replied(entry: Entry | None) -> bool:
    return entry is not None and bool(entry.status & SEEN_REPLY)
