"""The way of a packet through the node: hooks, routing decisions, IPVS, and the ways that come out of it. Pure.

Source: the order of netfilter's hooks in ``linux/netfilter_ipv4.h``; all nat chains of a hook are asked at one place,
in the order of their priorities, until one of them has translated the packet (``nf_nat_inet_fn``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from kpx.trace import ipvs
from kpx.trace.facts import Facts
from kpx.trace.outcome import Base, Hook, Rules
from kpx.trace.packet import Packet
from kpx.trace.result import Hop, Result, Verdict
from kpx.trace.walk import Ended, HookWalk, Way, merged

_NAT_PRIORITY = {Hook.PREROUTING: -100, Hook.OUTPUT: -100, Hook.INPUT: 100, Hook.POSTROUTING: 100}
_IPVS_PRIORITY = {Hook.INPUT: 99, Hook.OUTPUT: -98}
_IPVS = "ipvs"
_BINDS_DESTINATION = (Hook.PREROUTING, Hook.OUTPUT)
_TRANSLATED_STATES = ("NEW", "RELATED")
_LOOPBACK = "lo"


class Journey:
    """One packet's journey; `ended` are all ends that it can come to."""

    def __init__(self, rules: Rules, facts: Facts, *, ipvs: bool = False) -> None:
        self._rules = rules
        self._facts = facts
        self._walk = HookWalk(rules)
        self._stages = {hook: _stages(hook, rules.bases(hook), ipvs=ipvs) for hook in Hook}

    @property
    def ended(self) -> list[Ended]:
        return self._walk.ended

    @property
    def remembers(self) -> bool:
        """Whether it matters where the client went before."""
        return self._walk.remembers

    def run(self, packet: Packet) -> None:
        """Follow a packet that comes in by its interface, or that the node sends."""
        if packet.incoming:
            self._arrive([Way(packet)])
        else:
            self._send(self._routed([Way(packet)]))

    def _arrive(self, ways: list[Way]) -> None:
        """Behind the wire: the node decides whether a packet is for itself."""
        ways = self._hook(Hook.PREROUTING, ways)
        looped = [way for way in ways if way.packet.incoming == _LOOPBACK]
        routed = looped + self._routed([way for way in ways if way.packet.incoming != _LOOPBACK])
        here = [way for way in routed if way.packet.outgoing in ("", _LOOPBACK)]
        self._deliver([_without_outgoing(way) for way in here])
        through = self._hook(Hook.FORWARD, [way for way in routed if way not in here])
        self._leave(through)

    def _send(self, ways: list[Way]) -> None:
        """What the node itself sends; it is routed anew where rules have changed it."""
        for way in ways:
            changed: list[Way] = []
            for after in self._hook(Hook.OUTPUT, [way]):
                if (after.packet.destination, after.packet.mark) == (way.packet.destination, way.packet.mark):
                    changed.append(after)
                else:
                    changed += self._routed([after])
            self._leave(changed)

    def _leave(self, ways: list[Way]) -> None:
        for way in self._hook(Hook.POSTROUTING, ways):
            if way.packet.outgoing == _LOOPBACK:
                self._arrive([replace(way, packet=replace(way.packet, incoming=_LOOPBACK, outgoing=""))])
            else:
                self._end(way, Verdict.SENT, self._sent(way.packet), Hook.POSTROUTING)

    def _sent(self, packet: Packet) -> str:
        return f"it leaves by {packet.outgoing}"

    def _deliver(self, ways: list[Way]) -> None:
        for way in self._hook(Hook.INPUT, ways):
            if self._facts.listens(way.packet):
                self._end(way, Verdict.DELIVERED, "a process of this node gets it", Hook.INPUT)
            else:
                why = f"no process of this node listens on {way.packet.target}"
                self._end(way, Verdict.REJECTED, why, Hook.INPUT)

    def _routed(self, ways: list[Way]) -> list[Way]:
        """The routing decision for each; what has no route ends here."""
        going = []
        for way in ways:
            route = self._facts.route(way.packet)
            words = {"local": "to this node itself", "unicast": f"out by {route.interface}"}.get(route.kind)
            note = words or f"the routing table says {route.kind}"
            hop = Hop("routing", "", "", f"route to {way.packet.destination}", Result.ROUTED, note)
            if route.kind == "local":
                going.append(_with_outgoing(way, _LOOPBACK).passing(hop))
            elif route.kind in ("unicast", "multicast", "broadcast"):
                going.append(_with_outgoing(way, route.interface).passing(hop))
            else:
                verdict = Verdict.REJECTED if route.kind in ("unreachable", "prohibit") else Verdict.DROPPED
                self._end(way.passing(hop), verdict, f"routing refuses {way.packet.destination}: {route.kind}", None)
        return going

    def _hook(self, hook: Hook, ways: list[Way]) -> list[Way]:
        for stage in self._stages[hook]:
            if not ways:
                break
            if stage is None:
                ways = self._virtual(hook, ways)
            elif stage[0].nat:
                ways = self._translate(hook, stage, ways)
            else:
                for base in stage:
                    ways = self._walk.base(base, ways)
        return ways

    def _translate(self, hook: Hook, bases: Sequence[Base], ways: list[Way]) -> list[Way]:
        """The nat chains of a hook: for the first packet of a flow, until one of them has translated it."""
        settled = [way for way in ways if not _asks_nat(hook, way.packet)]
        asking = [way for way in ways if _asks_nat(hook, way.packet)]
        for base in bases:
            after = self._walk.base(base, asking)
            settled += [way for way in after if not _asks_nat(hook, way.packet)]
            asking = [way for way in after if _asks_nat(hook, way.packet)]
        settled += [replace(way, packet=_bound(hook, way.packet)) for way in asking]
        return merged(settled)

    def _virtual(self, hook: Hook, ways: list[Way]) -> list[Way]:
        """IPVS: what it takes for a virtual server goes to a real one."""
        staying: list[Way] = []
        leaving: list[Way] = []
        for way in ways:
            service = None if way.packet.virtual else ipvs.find(way.packet, self._facts)
            if service is None:
                staying.append(way)
                continue
            if service.persistent and len(service.served) > 1:
                self._walk.remembers = True
            if not service.served:
                hop = Hop(hook.value, _IPVS, "", service.text, Result.MATCHED, "no real server")
                why = "the Service has no endpoints: its virtual server in IPVS has no real server"
                self._end(way.passing(hop), Verdict.REJECTED, why, hook)
            for one in service.served:
                hop = Hop(hook.value, _IPVS, "", service.text, Result.MATCHED, one.note)
                share = None if way.share is None or one.share is None else way.share * one.share
                served = replace(way, packet=one.packet, share=share).passing(hop)
                here = self._facts.address_type(one.packet.destination) == "local"
                (staying if here else leaving).append(served)
        self._send(self._routed([_without_outgoing(way) for way in leaving]))
        return staying

    def _end(self, way: Way, verdict: Verdict, why: str, hook: Hook | None) -> None:
        self._walk.ended.append(Ended(way, verdict, why, hook))


def _asks_nat(hook: Hook, packet: Packet) -> bool:
    bound = packet.destination_bound if hook in _BINDS_DESTINATION else packet.source_bound
    return packet.state in _TRANSLATED_STATES and not bound


def _bound(hook: Hook, packet: Packet) -> Packet:
    """No chain has translated it: so it stays for the whole flow."""
    if hook in _BINDS_DESTINATION:
        return replace(packet, destination_bound=True)
    return replace(packet, source_bound=True)


def _with_outgoing(way: Way, interface: str) -> Way:
    return replace(way, packet=replace(way.packet, outgoing=interface))


def _without_outgoing(way: Way) -> Way:
    return replace(way, packet=replace(way.packet, outgoing=""))


def _stages(hook: Hook, bases: Sequence[Base], *, ipvs: bool) -> list[tuple[Base, ...] | None]:
    """What a packet meets in a hook, in order; None stands for IPVS, and all nat chains are one stage."""
    places: list[tuple[int, int, int, Base | None]] = [(*_place(hook, base), base) for base in bases]
    if ipvs and hook in _IPVS_PRIORITY:
        places.append((_IPVS_PRIORITY[hook], 0, 0, None))
    places.sort(key=lambda place: place[:3])
    stages: list[tuple[Base, ...] | None] = []
    for is_nat, group in groupby((place[3] for place in places), lambda base: base is not None and base.nat):
        found = list(group)
        if is_nat:
            stages.append(tuple(base for base in found if base is not None))
        else:
            stages += [(base,) if base is not None else None for base in found]
    return stages


def _place(hook: Hook, base: Base) -> tuple[int, int, int]:
    """Sorted by it, chains are in order. Of two at one priority the kernel asks the one that came last first."""
    return _NAT_PRIORITY[hook] if base.nat and hook in _NAT_PRIORITY else base.priority, base.priority, -base.order
