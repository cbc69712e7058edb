"""What a packet's path means beside what the Service wants: where it is lost, led astray or disguised. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from kpx.net import join_port
from kpx.proxier.frontends import Frontend, Frontends
from kpx.trace.reasons import of_proxy
from kpx.trace.result import Branch, Hop, Result, Trace, Verdict

_TRANSLATES = ("dnat to ", "redirect to ")
_HIDES = ("masquerade", "snat to ")
_THROUGH = (Verdict.SENT, Verdict.DELIVERED)


class Trouble(Enum):
    """What goes wrong on a way."""

    FOREIGN_REFUSAL = "a rule that is not the proxy's drops or rejects it"
    OWN_REFUSAL = "the proxy's rules drop or reject it"
    UNTRANSLATED = "no rule translates it"
    FOREIGN_TRANSLATION = "a rule that is not the proxy's sends it elsewhere"
    WRONG_ENDPOINT = "the proxy's rules send it to an address that is no endpoint"
    NO_ROUTE = "routing refuses it"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A trouble on one way, the rule that makes it if there is one, and the way's end in words."""

    trouble: Trouble
    hop: Hop | None
    says: str


def obstacles(trace: Trace, port: Frontends) -> list[Obstacle]:
    """What keeps packets from the endpoints of a service port that should be reached; each trouble once a rule."""
    found = [one for branch in trace.branches if not branch.unknown for one in _obstacle(trace, branch, port)]
    return list({(one.trouble, one.hop or one.says): one for one in found}.values())


def _obstacle(trace: Trace, branch: Branch, port: Frontends) -> Iterator[Obstacle]:
    ending, hops = branch.ending, (*trace.hops, *branch.hops)
    translated = _last(hops, _TRANSLATES, ipvs=True)
    if ending.verdict in _THROUGH:
        if not ending.translated:
            yield Obstacle(Trouble.UNTRANSLATED, None, ending.reason)
        elif (ending.destination, ending.port) not in {(one.ip, one.port) for one in port.reachable}:
            foreign = translated is not None and not _ours(translated)
            trouble = Trouble.FOREIGN_TRANSLATION if foreign else Trouble.WRONG_ENDPOINT
            yield Obstacle(trouble, translated, f"it goes to {join_port(ending.destination, ending.port)}")
    elif ending.verdict in (Verdict.REJECTED, Verdict.DROPPED):
        yield _refusal(hops, branch, translated)


def _refusal(hops: tuple[Hop, ...], branch: Branch, translated: Hop | None) -> Obstacle:
    reason = branch.ending.reason
    last = hops[-1] if hops else None
    if last is None or last.result is Result.ROUTED or reason.startswith("no process"):
        if translated is not None and not _ours(translated):
            return Obstacle(Trouble.FOREIGN_TRANSLATION, translated, reason)
        lost = reason.startswith("no process") and not branch.ending.translated
        return Obstacle(Trouble.UNTRANSLATED if lost else Trouble.NO_ROUTE, None, reason)
    return Obstacle(Trouble.OWN_REFUSAL if _ours(last) else Trouble.FOREIGN_REFUSAL, last, reason)


def refused_by_others(trace: Trace) -> list[Obstacle]:
    """What rules of others do to a packet that is not for a Service: to a port of the node itself."""
    found = []
    for branch in trace.branches:
        last = (*trace.hops, *branch.hops)[-1:]
        lost = branch.ending.verdict in (Verdict.REJECTED, Verdict.DROPPED) and not branch.unknown
        if lost and last and last[0].result in (Result.MATCHED, Result.POLICY) and not _ours(last[0]):
            found.append(Obstacle(Trouble.FOREIGN_REFUSAL, last[0], branch.ending.reason))
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """As whom endpoints see the sender: with its own address, or hidden behind another by the rule of ``hop``."""

    kept: bool
    source: str
    hop: Hop | None
    destination: str

    @property
    def foreign(self) -> bool:
        return self.hop is not None and not _ours(self.hop)


def seen(trace: Trace, sender: str) -> list[Seen]:
    """As whom each endpoint that is reached sees a sender."""
    found = []
    for branch in trace.branches:
        if branch.ending.verdict in _THROUGH and not branch.unknown and branch.ending.translated:
            hop = _last((*trace.hops, *branch.hops), _HIDES)
            ending = branch.ending
            found.append(Seen(ending.source == sender, ending.source, hop, ending.destination))
    return found


def hop_text(hop: Hop) -> str:
    """A rule with where it hangs."""
    counted = f" [{hop.packets} packets]" if hop.packets is not None else ""
    rule = hop.rule or hop.note
    return f"{rule}{counted}"


def place(hop: Hop) -> str:
    return f"table {hop.table}, chain {hop.chain}" if hop.chain else hop.table


def _ours(hop: Hop) -> bool:
    return hop.table == "ipvs" or of_proxy(hop.table, hop.chain)


def _last(hops: tuple[Hop, ...], words: tuple[str, ...], *, ipvs: bool = False) -> Hop | None:
    """The last hop that did such a thing."""
    for hop in reversed(hops):
        did = hop.note.rpartition(", ")[2]
        if hop.result is Result.MATCHED and (did.startswith(words) or (ipvs and hop.table == "ipvs")):
            return hop
    return None


def answers(frontend: Frontend) -> str:
    """An address of a Service as people write it."""
    if frontend.address is None:
        return f"node port {frontend.port}/{frontend.protocol.lower()}"
    return f"{join_port(frontend.address, frontend.port)}/{frontend.protocol.lower()}"
