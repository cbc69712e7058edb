"""Visits to the lab's Services, one of each sort, with what should answer: a demonstration, and a check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kpx.lab.lifecycle import Lab
from kpx.lab.requests import Outcome, Reply, Request, send
from kpx.net import join_port

# Enough for every one of three endpoints to be met: the chance that one is missed is below 1 in 10^6.
_TIMES = 40


@dataclass(frozen=True, slots=True)
class Visit:
    """Requests of one sort: what they show, from where, to what, and who should answer (nobody: refused)."""

    shows: str
    place: str
    protocol: str
    address: str
    port: int
    answers: frozenset[str] = frozenset()
    seen_as: str = ""

    @property
    def target(self) -> str:
        return f"{self.protocol}://{join_port(self.address, self.port)}"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a visit: who answered, as whom they saw the sender, and whether all is as it should be."""

    visit: Visit
    answered: tuple[str, ...]
    seen_as: tuple[str, ...]
    outcome: str
    ok: bool


def _visit(shows: str, place: str, target: str, answers: str, seen_as: str = "") -> Visit:
    protocol, _, address = target.partition("://")
    host, _, port = address.rpartition(":")
    return Visit(shows, place, protocol, host.strip("[]"), int(port), frozenset(answers.split()), seen_as)


NODE, CLIENT, POD = "10.199.0.21", "203.0.113.10", "10.244.21.11"

VISITS = (
    _visit("ClusterIP from a pod", "a11", "tcp://10.96.100.1:80", "a10 b10", POD),
    _visit("ClusterIP from the node", "node-a", "tcp://10.96.100.1:80", "a10 b10"),
    _visit("ClusterIP, IPv6", "a11", "tcp://[fd00:96::1001]:80", "a10 b10"),
    _visit("ClusterIP, UDP", "a10", "udp://10.96.100.2:53", "a11 b11"),
    _visit("NodePort from outside", "client", f"tcp://{NODE}:30080", "a12 b11"),
    _visit("NodePort from a pod", "a10", f"tcp://{NODE}:30080", "a12 b11"),
    _visit("LoadBalancer from its range", "client", "tcp://192.0.2.10:443", "a10 b10"),
    _visit("externalTrafficPolicy Local", "client", "tcp://192.0.2.11:80", "a11", CLIENT),
    _visit("externalIP from outside", "client", "tcp://198.51.100.200:3306", "b10"),
    _visit("a Service without endpoints", "a10", "tcp://10.96.100.9:80", ""),
)


def visit(lab: Lab, visits: Sequence[Visit] = VISITS) -> Iterator[Result]:
    """Make the visits one after the other."""
    for one in visits:
        request = Request(lab.namespace(one.place), one.protocol, one.address, one.port)
        yield _judge(one, send([request] * (_TIMES if one.answers else 1)))


def _judge(visit: Visit, replies: Sequence[Reply]) -> Result:
    answered = {reply.answers for reply in replies if reply.outcome is Outcome.ANSWERED}
    seen = {reply.client for reply in replies if reply.client}
    outcomes = {reply.outcome for reply in replies}
    wanted = Outcome.ANSWERED if visit.answers else Outcome.REFUSED
    ok = outcomes == {wanted} and answered == visit.answers and (not visit.seen_as or seen == {visit.seen_as})
    worst = next((reply for reply in replies if reply.outcome is not wanted), replies[0])
    return Result(visit, tuple(sorted(answered)), tuple(sorted(seen)), worst.detail or worst.outcome.value, ok)
