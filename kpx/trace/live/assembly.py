"""The kernel's reports put together, packet by packet and flow by flow. Pure: it is told the time.

Reports come from several sockets, so that those of one packet may come in any order: a flow's way through nftables,
its way through legacy tables, and what conntrack knows of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kpx.kernel.conntrack import Flow as Entry
from kpx.kernel.conntrack import Tuple
from kpx.kernel.conntrack_events import Event, Happening
from kpx.kernel.headers import Headers
from kpx.trace.live.met import Met
from kpx.trace.live.opened import Open, key_of

# How many flows, packets or connections are remembered, at most.
_MOST = 10_000
# A repeated datagram begins no other flow within this time.
_SAME_FLOW_SECONDS = 30.0
# The report of a connection's first packet is at most so much later than conntrack's.
_EARLY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Early:
    """What conntrack said of a connection before its first packet was reported, and when it began to."""

    entry: Entry
    at: float
    gone: bool = False


class _Way(NamedTuple):
    """What a packet with a number is followed for: the flow, and the list of what it has met."""

    flow: Open
    met: list[Met]


class Assembly:
    """`wanted` says of a packet's headers whether it begins a flow that is asked for."""

    def __init__(self, wanted: Callable[[Headers], bool], patience: float) -> None:
        self._wanted = wanted
        self._patience = patience
        self._open: dict[Tuple, Open] = {}
        self._numbered: OrderedDict[int, _Way | None] = OrderedDict()
        self._closed: OrderedDict[tuple[Tuple, int], float] = OrderedDict()
        self._early: OrderedDict[Tuple, _Early] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def marked(self, number: int, headers: Headers, incoming: int, now: float) -> None:
        """Our own rule has marked a first packet, which has this number from now on."""
        flow = self._begun(headers, incoming, now)
        if flow is not None:
            flow.marked += 1
        # Of a repeated packet only the number of times is kept.
        self._number(number, _Way(flow, flow.met) if flow is not None and flow.marked == 1 else None)

    def marked_answer(self, number: int, flow_id: int, headers: Headers) -> None:
        """Our own rule has marked an answer."""
        flow = self._of_id(flow_id) or self._answered(key_of(headers))
        if flow is not None:
            flow.answers += 1
        self._number(number, _Way(flow, flow.back) if flow is not None and flow.answers == 1 else None)

    def _number(self, number: int, way: _Way | None) -> None:
        """From now on the number is that of a packet of a flow, or of none that matters."""
        self._numbered[number] = way
        self._numbered.move_to_end(number)
        if len(self._numbered) > _MOST:
            self._numbered.popitem(last=False)

    def expects(self, number: int, headers: Headers | None) -> bool:
        """Whether what a packet with a number meets may matter."""
        return self._numbered.get(number) is not None or (headers is not None and number not in self._numbered)

    def met(self, number: int, flow_id: int, headers: Headers | None, met: Met | None) -> None:
        """A packet with a number has met something in nftables."""
        way = self._numbered.get(number)
        if way is None and number not in self._numbered and headers is not None:
            flow = self._returned(flow_id, headers)
            if flow is not None:
                way = _Way(flow, flow.met)
                self._number(number, way)
        if way is None:
            return
        way.flow.flow_id = way.flow.flow_id or flow_id
        if met is not None:
            way.met.append(met)

    def _returned(self, flow_id: int, headers: Headers) -> Open | None:
        """The flow of a packet that the node sent to itself: it comes in again, and has another number then."""
        return self._of_id(flow_id) or self._translated(headers)

    def _of_id(self, flow_id: int) -> Open | None:
        """The flow with conntrack's number, where the kernel tells that."""
        return next((flow for flow in self._open.values() if flow_id and flow.flow_id == flow_id), None)

    def logged(self, headers: Headers, incoming: int, met: Met | None, now: float) -> None:
        """A packet has met something in a legacy table."""
        key = key_of(headers)
        flow = self._open.get(key)
        if flow is None or flow.first.sequence != headers.sequence:
            flow = self._translated(headers)
        if flow is None and self._wanted(headers):
            flow = self._begun(headers, incoming, now)
        if flow is None:
            self._logged_answer(key, met)
            return
        if met is None:
            return
        legacy = [one for one in flow.met if one.base.kind == met.base.kind]
        if not legacy or (met.hop == legacy[0].hop and key == flow.key):
            flow.logged += 1
        if flow.logged == 1:
            flow.met.append(met)

    def _logged_answer(self, key: Tuple, met: Met | None) -> None:
        flow = self._answered(key) if met is not None else None
        if flow is None or met is None:
            return
        legacy = [one for one in flow.back if one.base.kind == met.base.kind]
        if not any(one.hop == met.hop for one in legacy):
            flow.back.append(met)

    def _answered(self, answer: Tuple) -> Open | None:
        return next((flow for flow in self._open.values() if flow.answered_by(answer)), None)

    def _translated(self, headers: Headers) -> Open | None:
        """The flow of a packet that has been translated in whole or in part."""
        for flow in self._open.values():
            first = flow.first
            if first.protocol != headers.protocol or first.sequence != headers.sequence:
                continue
            if (first.source, first.source_port) == (headers.source, headers.source_port):
                return flow
            if flow.sent() == key_of(headers):
                return flow
        return None

    def _begun(self, headers: Headers, incoming: int, now: float) -> Open | None:
        """The flow of a first packet; None for a repeated one of a flow that has been told."""
        key = key_of(headers)
        flow = self._open.get(key)
        if flow is not None and flow.first.sequence == headers.sequence:
            return flow
        told = self._closed.get((key, headers.sequence))
        # TCP numbers its connections, if what begins it is a packet.
        if told is not None and (headers.sequence or now - told < _SAME_FLOW_SECONDS):
            return None
        if flow is not None:
            self._forget(flow)  # another connection has taken its ports
        flow = Open(headers, now, incoming)
        early = self._early.pop(key, None)
        if early is not None and now - early.at < _EARLY_SECONDS:
            flow.entry, flow.gone = early.entry, early.gone
        self._open[key] = flow
        return flow

    def tracked(self, event: Event, now: float, *, begins: bool = False) -> None:
        """Something happened to a connection; with `begins`, a new one begins a flow by itself."""
        entry = event.flow
        flow = self._open.get(entry.original)
        if flow is None and begins and event.happening is Happening.CAME:
            headers = Headers(*_fields(entry.original))
            flow = self._begun(headers, 0, now) if self._wanted(headers) else None
        if flow is None:
            self._remember(event, now)
        elif flow.flow_id in (0, entry.id):
            if event.happening is not Happening.WENT:
                flow.entry = entry
            elif flow.entry is not None and flow.entry.id == entry.id:
                flow.gone = True

    def _remember(self, event: Event, now: float) -> None:
        """Word of a connection may come before that of its first packet."""
        entry, key = event.flow, event.flow.original
        known = self._early.get(key)
        gone = event.happening is Happening.WENT
        if event.happening is Happening.CAME:
            self._early[key] = _Early(entry, now)
            self._early.move_to_end(key)
        elif known is not None and known.entry.id == entry.id:
            self._early[key] = _Early(known.entry if gone else entry, known.at, gone)
        if len(self._early) > _MOST:
            self._early.popitem(last=False)

    def due(self, now: float, *, all_of_them: bool = False) -> list[Open]:
        """The flows that can be told now, the first one first; they are forgotten here."""
        found = [flow for flow in self._open.values() if all_of_them or flow.due(now, self._patience)]
        for flow in found:
            self._forget(flow)
            self._closed[flow.key, flow.first.sequence] = now
            if len(self._closed) > _MOST:
                self._closed.popitem(last=False)
        return found

    def next_due(self) -> float | None:
        """When patience ends for the flow that began first."""
        return next((flow.at + self._patience for flow in self._open.values()), None)

    def _forget(self, flow: Open) -> None:
        del self._open[flow.key]
        for number in [number for number, way in self._numbered.items() if way is not None and way.flow is flow]:
            del self._numbered[number]


def _fields(key: Tuple) -> tuple[int, str, int, str, int]:
    return key.protocol, key.source, key.source_port, key.destination, key.destination_port
