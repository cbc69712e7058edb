"""A trace: the walk of one packet, and what comes out of it as data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kpx.trace.facts import Facts
from kpx.trace.journey import Journey
from kpx.trace.outcome import Condition, Rules
from kpx.trace.packet import Packet
from kpx.trace.result import Branch, Ending, Hop, Sender, Trace, Verdict
from kpx.trace.target import Target
from kpx.trace.walk import Ended, Trail

_JUMPS = ("jump ", "goto ")


def trace(
    target: Target, sender: Sender, packet: Packet, rules: Rules, facts: Facts, proxies: Sequence[str] = ()
) -> Trace:
    """Follow a packet of a sender to a target."""
    journey = Journey(rules, facts, ipvs="ipvs" in proxies)
    journey.run(packet)
    paths = [with_leading_jumps(Trail.hops(ended.way.trail)) for ended in journey.ended]
    common = _common(paths)
    branches = [_branch(packet, ended, path[common:]) for ended, path in zip(journey.ended, paths, strict=True)]
    first = paths[0][:common] if paths else ()
    return Trace(
        target=target,
        sender=sender,
        destination=packet.destination,
        proxies=tuple(proxies),
        hops=first,
        branches=tuple(sorted(branches, key=lambda one: (bool(one.unknown), one.remembered))),
        affinity=journey.remembers,
    )


def _common(paths: Sequence[Sequence[Hop]]) -> int:
    """How many hops all paths begin with."""
    if not paths:
        return 0
    count = 0
    for hops in zip(*paths, strict=False):
        if any(hop is not hops[0] and hop != hops[0] for hop in hops):
            break
        count += 1
    return count


def _branch(packet: Packet, ended: Ended, hops: Sequence[Hop]) -> Branch:
    way = ended.way
    last = way.packet
    translated = (last.destination, last.port) != (packet.destination, packet.port)
    astray = translated and not last.source_translated and last.outgoing == packet.incoming != ""
    return Branch(
        share=way.share,
        remembered=any(one.condition is Condition.HISTORY for one in way.assumes),
        unknown=tuple(one.text for one in way.assumes if one.condition is Condition.UNKNOWN),
        hops=tuple(hops),
        ending=Ending(
            verdict=ended.verdict,
            reason=ended.reason,
            destination=last.destination,
            port=last.port,
            source=last.source,
            translated=translated,
            masqueraded=last.masqueraded,
            random_port=last.random_port,
            astray=astray and ended.verdict is Verdict.SENT,
            interface=last.outgoing,
            hook=ended.hook.value if ended.hook else "",
        ),
    )


def with_leading_jumps(hops: Iterable[Hop]) -> tuple[Hop, ...]:
    """The hops, with those jumps marked as telling that lead to something telling."""
    reached: set[tuple[str, str, str]] = set()
    told = []
    for hop in reversed(list(hops)):
        leads = hop.note.rpartition(", ")[2]
        if leads.startswith(_JUMPS) and not hop.telling:
            hop = replace(hop, telling=(hop.hook, hop.table, leads[5:]) in reached)
        if hop.telling:
            reached.add((hop.hook, hop.table, hop.chain))
        told.append(hop)
    return tuple(reversed(told))
