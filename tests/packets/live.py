"""What a live trace says of real requests, against what their servers saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from kpx.lab import Lab
from kpx.lab.requests import Outcome, Reply
from kpx.net import Family
from kpx.trace.live.flow import Flow
from kpx.trace.live.tracer import LiveTrace

# How long flows are waited for, on a busy machine: much longer than they take.
_SECONDS = 30.0


def followed(trace: LiveTrace, number: int) -> list[Flow]:
    """So many flows."""
    return list(islice(trace.flows(_SECONDS), number))


def assert_seen(lab: Lab, replies: Sequence[Reply], flows: Sequence[Flow], family: Family = Family.IPV4) -> None:
    """Each request was answered and is a flow of the trace: to the backend that answered, from whom that one saw."""
    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
    assert {flow.outcome.value for flow in flows} == {"answered"}
    seen = Counter(
        (reply.source_port, lab.topology.place(reply.answers).address(family), (reply.client, reply.client_port))
        for reply in replies
    )
    assert Counter((flow.client.port, flow.backend and flow.backend.address, flow.source) for flow in flows) == seen
