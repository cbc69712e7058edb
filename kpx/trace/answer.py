"""What `kpx trace` answers: the walk, and beside it endpoints, flows and what is not as the cluster wants it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kpx.net import join_port
from kpx.proxier.frontends import Endpoint
from kpx.tools.flows import ShownFlow
from kpx.trace.comparison import Difference
from kpx.trace.questions import Question
from kpx.trace.result import Trace, Verdict

_THROUGH = (Verdict.SENT, Verdict.DELIVERED)


@dataclass(frozen=True, slots=True)
class Flows:
    """Flows of the target in conntrack: the first few, and how many there are (``complete``: in the whole table)."""

    shown: tuple[ShownFlow, ...] = ()
    count: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One target's answer. ``differences`` is None where nobody tells what is wanted."""

    question: Question
    trace: Trace
    differences: tuple[Difference, ...] | None = None
    flows: Flows = Flows()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.question.wanted.port.endpoints if self.question.wanted else ()

    @property
    def shares(self) -> Mapping[str, float | None]:
        """The part of new connections that each destination gets, for sure; None where it is not known."""
        found: dict[str, float | None] = {}
        for branch in self.trace.branches:
            if branch.ending.verdict in _THROUGH and not branch.unknown and not branch.remembered:
                to = join_port(branch.ending.destination, branch.ending.port)
                before = found.get(to, 0.0)
                found[to] = None if before is None or branch.share is None else before + branch.share
        return found

    @property
    def through(self) -> bool:
        """Whether the packet gets through on every way."""
        return all(branch.ending.verdict in _THROUGH for branch in self.trace.branches)

    @property
    def good(self) -> bool:
        """Whether it gets through, and as the cluster wants it."""
        return self.through and not self.differences


def state(endpoint: Endpoint) -> str:
    """What an EndpointSlice says of an endpoint."""
    if endpoint.terminating:
        told = "terminating, serves" if endpoint.serving else "terminating"
    else:
        told = "ready" if endpoint.ready else "not ready"
    return f"{told}, on this node" if endpoint.local else told
