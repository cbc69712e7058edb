"""What a static trace says before a packet is sent, against what the scenario expects; then it is sent."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from kpx.lab import namespaces
from kpx.lab.objects import configuration
from kpx.lab.topology import NODE, ROUTER
from kpx.proxier.plan import Viewpoint
from kpx.tools import objects
from kpx.tools.stock import Configuration
from kpx.trace.comparison import differences
from kpx.trace.questions import owned
from kpx.trace.reading.kernel import trace_here
from kpx.trace.result import Ending, Trace, Verdict
from kpx.trace.target import Target
from tests.packets.node import Node
from tests.packets.own import read
from tests.packets.runner import Run, Unexpected, target_of
from tests.packets.scenario import Send, Step

_STATES = {"stray": ("tcp", "INVALID"), "forged": ("udp", "NEW")}
_FAILURES = {"refused": Verdict.REJECTED, "timeout": Verdict.DROPPED, "forbidden": Verdict.DROPPED}
_PASSES = (Verdict.SENT, Verdict.DELIVERED)


class Predicted(Run):
    """A run of a case in which every send is traced before it is made."""

    _flows: frozenset[tuple[str, str, int]] = frozenset()

    def _step(self, number: int, step: Step) -> None:
        told = [f"  {send.sender} -> {send.to}\n    {text}" for send in step.send for text in self._wrong(send)]
        if told:
            raise Unexpected(f"{self._case.name}, step {number}, before it:\n" + "\n".join(told))
        super()._step(number, step)

    def _wrong(self, send: Send) -> list[str]:
        flow = send.sender, send.to, send.source_port
        if send.source_port and flow in self._flows:
            return []  # it goes where conntrack remembers that it went
        self._flows |= {flow}
        trace = self._trace(send)
        found = [*self._differences(send, trace), *self._unwanted(send, trace)]
        if found:
            found += [f"{branch.ending}" for branch in trace.branches]
            found += [
                f"{hop.hook} {hop.table} {hop.chain} | {hop.rule} | {hop.result.value} {hop.note}" for hop in trace.hops
            ]
        return found

    def _trace(self, send: Send) -> Trace:
        scheme, address, port = target_of(send)
        protocol, state = _STATES.get(scheme, (scheme, "NEW"))
        sender = self._sources(send)[0]
        if sender is None:
            sender = "node" if send.sender == "node" else self._address(send.sender)
        with namespaces.entered(Node(self._lab).namespace):
            return trace_here(Target(address, port, protocol), sender, state=state)

    def _differences(self, send: Send, trace: Trace) -> list[str]:
        endings = [branch.ending for branch in trace.branches]
        if not trace.certain or not endings:
            return [f"the trace is not certain: {[branch.unknown for branch in trace.branches]}"]
        if send.fails:
            wanted = _FAILURES[send.fails]
            if send.to.startswith("stray") and send.fails == "refused":
                wanted = Verdict.SENT  # whom it reaches knows no such connection
            unanswered = send.fails == "timeout" and all(ending.astray for ending in endings)
            return (
                []
                if unanswered or all(ending.verdict is wanted for ending in endings)
                else [f"predicted that it is not {wanted}"]
            )
        problems = []
        seen: dict[str, set[str]] = defaultdict(set)
        for ending in endings:
            seen[self._answering(ending)].add(ending.source)
        if seen.keys() != set(send.answers):
            problems.append(f"predicted answers of {sorted(seen)}, not {send.answers}")
        for name, sources in seen.items():
            wanted = send.sees.get(name) if isinstance(send.sees, dict) else send.sees
            if wanted and sources != {self._address(wanted)}:
                problems.append(f"predicted that {name} sees {sources}, not {wanted}")
        if send.port and any(ending.random_port != (send.port == "changed") for ending in endings):
            problems.append(f"predicted that the source port is not {send.port}")
        return problems + self._wrong_shares(send, trace)

    def _unwanted(self, send: Send, trace: Trace) -> list[str]:
        """What the tracer itself would say is not as the cluster wants it."""
        if send.fails or target_of(send)[0] in _STATES:
            return []  # what fails may do so for what another tool has put there
        config = msgspec.convert(configuration(self._variant.mode, self._case.config), Configuration, strict=False)
        view = Viewpoint(node=NODE, masquerade_all=config.masquerade_all, pods_known=config.pods_known)
        wanted = objects.wanted(read(self._world.objects).values(), view)
        question = owned(trace.target, wanted)
        told = differences(question.wanted, trace) if question.wanted else []
        return [f"told that it is not as wanted: {one.text}" for one in told]

    def _wrong_shares(self, send: Send, trace: Trace) -> list[str]:
        shares = [branch.share for branch in trace.branches if not branch.remembered]
        if None in shares:
            return []
        total = sum(share for share in shares if share is not None)
        return [] if abs(total - 1.0) < 1e-6 else [f"the shares add up to {total}"]

    def _answering(self, ending: Ending) -> str:
        if ending.verdict not in _PASSES:
            return f"nobody ({ending.verdict.value}: {ending.reason})"
        if ending.verdict is Verdict.DELIVERED:
            return NODE
        return self._names.get(ending.destination, ROUTER)
