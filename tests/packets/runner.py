"""Run a case: its steps one by one on the lab, and say exactly what differs from what it expects."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest

from kpx.lab import Lab, requests
from kpx.lab.objects import configuration
from kpx.lab.requests import Outcome, Reply, Request
from tests.packets import crafted
from tests.packets.addresses import in_family
from tests.packets.node import Node, Variant
from tests.packets.proxies import Proxy
from tests.packets.scenario import Case, Send, Step
from tests.packets.world import World

# How long silence is listened to before it counts as a drop.
_SILENCE_SECONDS = 0.4
# How long an answer may take, on a busy machine: much longer than it does.
PATIENCE_SECONDS = 5.0
_FEW = 3
_CHANCE_OF_MISSING_ONE = 1e-7
_FIRST_SOURCE = 100
_CRAFTED: dict[str, crafted.Send] = {"stray": crafted.stray, "forged": crafted.forged}


class Unexpected(AssertionError):
    """A send did not do what the scenario expects of it; the text says who sent what, and what happened."""


class Run:
    """One run of a case. `patience` is how long an answer may take, in seconds."""

    def __init__(self, case: Case, variant: Variant, lab: Lab, proxy: Proxy, patience: float) -> None:
        self._case = case
        self._variant = variant
        self._lab = lab
        self._proxy = proxy
        self._patience = patience
        self._world = World(case.family, lab.topology, case.objects)
        self._assigned: dict[tuple[str, str], dict[str, str]] = {}
        self._names = {address: place.name for place in lab.places for address in place.addresses}

    def run(self) -> None:
        """All steps. Raises `Unexpected` for the first step with a send that went otherwise than expected."""
        try:
            self._proxy.start(self._world.objects, configuration(self._variant.mode, self._case.config))
            for number, step in enumerate(self._case.steps, 1):
                self._step(number, step)
        finally:
            self._proxy.stop()

    def _step(self, number: int, step: Step) -> None:
        if step.send:
            differences = [self.difference(send, replies) for send, replies in self._make(step.send)]
            told = [difference for difference in differences if difference]
            if told:
                raise Unexpected(f"{self._case.name}, step {number}:\n" + "\n".join(told))
        elif step.wait:
            time.sleep(step.wait)
        elif step.node:
            words = [self._variant.iptables(self._case.family) if w == "iptables" else w for w in step.node.split()]
            Node(self._lab).run(*words)
        else:
            self._world.apply(step.apply)
            self._world.patch(step.patch)
            self._world.delete(step.delete)
            self._proxy.update(self._world.objects)

    def _make(self, sends: tuple[Send, ...]) -> list[tuple[Send, list[Reply]]]:
        """Make all sends at once, in rounds where a send wants its requests one after the other."""
        made: list[tuple[Send, list[Reply]]] = [(send, []) for send in sends]
        for together in zip_longest(*map(self._rounds, sends), fillvalue=[]):
            replies = iter(requests.send([request for batch in together for request in batch]))
            for (_, collected), batch in zip(made, together, strict=True):
                collected += [next(replies) for _ in batch]
        for send, collected in made:
            if how := _CRAFTED.get(target_of(send)[0]):
                collected.append(self._craft(send, how))
        return made

    def _rounds(self, send: Send) -> list[list[Request]]:
        protocol, address, port = target_of(send)
        if protocol in _CRAFTED:
            return []
        timeout = _SILENCE_SECONDS if send.fails == "timeout" else self._patience
        batch = [
            Request(self._lab.namespace(send.sender), protocol, address, port, source, send.source_port, timeout)
            for source in self._sources(send)
        ]
        if send.sticky:
            return [batch] * times(send)
        return [batch * times(send)]

    def _sources(self, send: Send) -> list[str | None]:
        if send.sources == 1:
            return [send.source]
        numbered = [f"203.0.113.{_FIRST_SOURCE + number}" for number in range(send.sources)]
        return list(in_family(numbered, self._case.family))

    def _craft(self, send: Send, how: crafted.Send) -> Reply:
        _, address, port = target_of(send)
        source = self._lab.topology.place(send.sender).address(self._case.family)
        return crafted.send(how, self._lab.namespace(send.sender), source, (address, port), _SILENCE_SECONDS)

    def difference(self, send: Send, replies: list[Reply]) -> str | None:
        """What is not as expected, in full; None if all is."""
        problems = [*self._wrong_outcomes(send, replies), *self._wrong_views(send, replies)]
        if send.sticky:
            problems += self._wrong_assignments(send, replies)
        if not problems:
            return None
        happened = Counter(self._told(reply) for reply in replies)
        return "\n".join(
            [
                f"  {send.sender} -> {send.to}",
                *(f"    {problem}" for problem in problems),
                *(f"    happened {count}x: {what}" for what, count in happened.most_common()),
            ]
        )

    def _wrong_outcomes(self, send: Send, replies: list[Reply]) -> Iterable[str]:
        wanted = Outcome(send.fails) if send.fails else Outcome.ANSWERED
        if any(reply.outcome is not wanted for reply in replies):
            yield f"expected all {len(replies)} requests to be {wanted.value}"
        if not send.fails and {reply.answers for reply in replies} != set(send.answers):
            yield f"expected answers of exactly {', '.join(send.answers)}"

    def _wrong_views(self, send: Send, replies: list[Reply]) -> Iterable[str]:
        answered = [reply for reply in replies if reply.outcome is Outcome.ANSWERED]
        for pod in sorted({reply.answers for reply in answered}):
            seen = [reply for reply in answered if reply.answers == pod]
            wanted = send.sees.get(pod) if isinstance(send.sees, dict) else send.sees
            if wanted and {reply.client for reply in seen} != {self._address(wanted)}:
                yield f"expected that {pod} sees {wanted}"
        kept = sum(reply.client_port == reply.source_port for reply in answered)
        # Of many ports that are chosen at random, one may be that which it was.
        wrong = kept < len(answered) if send.port == "kept" else kept > len(answered) // 4
        if send.port and wrong:
            yield f"expected the source port to be {send.port}"

    def _wrong_assignments(self, send: Send, replies: list[Reply]) -> Iterable[str]:
        sources = self._sources(send)
        assigned: dict[str, str] = {}
        for number, reply in enumerate(replies):
            source = str(sources[number % len(sources)])
            if assigned.setdefault(source, reply.answers) != reply.answers:
                yield f"expected one pod for each client, but {source} had {assigned[source]}, then {reply.answers}"
        before = self._assigned.get((send.sender, send.to), {})
        if send.sticky == "kept" and assigned != before:
            yield f"expected the same pods as before: {before}"
        if send.sticky == "forgotten" and assigned == before:
            yield f"expected that not all clients have the same pods as before: {before}"
        self._assigned[send.sender, send.to] = assigned

    def _address(self, name: str) -> str:
        """The address that a place speaks from in this family; an address is itself."""
        if any(mark in name for mark in ".:"):
            return name
        return self._lab.topology.place(name).address(self._case.family)

    def _told(self, reply: Reply) -> str:
        if reply.outcome is not Outcome.ANSWERED:
            return f"{reply.outcome.value} {reply.detail}".rstrip()
        seen = self._names.get(reply.client, reply.client)
        port = "kept" if reply.client_port == reply.source_port else "changed"
        return f"{reply.answers} answers, sees {seen} ({reply.client}), source port {port}"


def target_of(send: Send) -> tuple[str, str, int]:
    """``tcp://10.96.100.1:80`` -> protocol, address, port (IPv6 addresses need no brackets)."""
    protocol, _, rest = send.to.partition("://")
    address, _, port = rest.rpartition(":")
    return protocol, address, int(port)


def times(send: Send) -> int:
    """How often a send is made: often enough to see every pod that should answer."""
    if send.times is not None:
        return send.times
    pods = len(send.answers)
    if send.sticky or pods < 2:
        return _FEW
    return math.ceil(math.log(pods / _CHANCE_OF_MISSING_ONE) / math.log(pods / (pods - 1)))
