"""How often each pod answers, against the share that a static trace gives it."""

from __future__ import annotations

from collections import Counter
from math import sqrt

from kpx.lab import Lab, namespaces, requests
from kpx.lab.requests import Outcome, Request
from kpx.net import Family
from kpx.trace.reading.kernel import trace_here
from kpx.trace.target import Target
from tests.packets.node import Node

CLIENT = "a11"
# A right share is outside by chance once in two million times.
_DEVIATIONS = 5


def check(lab: Lab, family: Family, address: str, port: int, count: int = 240) -> set[str]:
    """Send so many requests from a pod, and compare; the pods that answered."""
    client = lab.topology.place(CLIENT)
    names = {one: place.name for place in lab.places for one in place.addresses}
    with namespaces.entered(Node(lab).namespace):
        trace = trace_here(Target(address, port, "tcp"), client.address(family))
    predicted = {names[branch.ending.destination]: branch.share for branch in trace.branches}
    replies = requests.send([Request(lab.namespace(CLIENT), "tcp", address, port)] * count)
    assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}
    seen = Counter(reply.answers for reply in replies)
    assert seen.keys() == predicted.keys()
    for pod, share in predicted.items():
        assert share is not None
        bound = _DEVIATIONS * sqrt(count * share * (1 - share))
        assert abs(seen[pod] - count * share) <= bound, (pod, seen, predicted)
    return set(seen)
