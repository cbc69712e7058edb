"""A flow that has been put together, as it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kpx.trace.live.flow import End, Flow, Outcome
from kpx.trace.live.met import Effect, Met
from kpx.trace.live.opened import Open
from kpx.trace.live.virtual import Served
from kpx.trace.outcome import Base, Hook
from kpx.trace.packet import PROTOCOL_NUMBERS
from kpx.trace.result import Hop, Result, Verdict
from kpx.trace.tracing import with_leading_jumps

_PROTOCOLS = {number: name for name, number in PROTOCOL_NUMBERS.items()}
# What comes in passes the hooks in this order; what the node sends to itself, in the other one. (IPVS sends on what
# it has taken in INPUT through OUTPUT.)
_INCOMING = (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING)
_OWN = (Hook.OUTPUT, Hook.POSTROUTING, Hook.PREROUTING, Hook.INPUT, Hook.FORWARD)
_IPVS = "ipvs"
_ENDED = {Verdict.DROPPED: Outcome.DROPPED, Verdict.REJECTED: Outcome.REJECTED}
_NO_REAL_SERVER = "the Service has no endpoints: its virtual server in IPVS has no real server"
_ANSWER_LOST = "an answer came to this node, and has not left it: see what drops it on its way back"
_LOST = (
    "it has not left, and no rule that it has met ended its way: it was dropped elsewhere, as where the table of "
    "conntrack is full, or its flow is not tracked"
)


def backend_of(flow: Open) -> End | None:
    """Where conntrack says that a flow goes."""
    return End(flow.known.reply.source, flow.known.reply.source_port) if flow.known else None


def told(flow: Open, at: float, waited: float, incoming: str = "", virtual: Served | None = None) -> Flow:
    """All that is known of a flow `waited` seconds after it began, which was `at` seconds since 1970.

    `incoming` is the name of its interface.
    """
    first, entry = flow.first, flow.known
    outcome, reason = _outcome(flow, waited, virtual)
    left = entry is not None and outcome not in _ENDED.values()
    real = virtual.real if virtual else None
    backend = real or backend_of(flow) if left else None
    source = End(entry.reply.destination, entry.reply.destination_port) if entry and left else None
    return Flow(
        at=at,
        protocol=_PROTOCOLS.get(first.protocol, str(first.protocol)),
        client=End(first.source, first.source_port),
        target=End(first.destination, first.destination_port),
        outcome=outcome,
        backend=backend,
        source=source,
        incoming=incoming,
        reason=reason,
        packets=flow.packets,
        hops=with_leading_jumps(_noted(_way(flow, virtual), backend, source)),
        answer_hops=with_leading_jumps(one.hop for one in in_order(flow.back, own=False)),
    )


def _way(flow: Open, virtual: Served | None) -> list[Met]:
    """What a packet has met, IPVS among it."""
    met = in_order(flow.met, own=not flow.incoming)
    if virtual is None:
        return met
    at, hook = _place_of_ipvs(met, own=not flow.incoming)
    hop = Hop(
        hook.value,
        _IPVS,
        "",
        virtual.server,
        Result.MATCHED,
        f"to {virtual.real}" if virtual.real else "no real server",
    )
    return [*met[:at], Met(hop, Base(hook, _IPVS, "", 0)), *met[at:]]


def _place_of_ipvs(met: Sequence[Met], *, own: bool) -> tuple[int, Hook]:
    """IPVS takes packets at the end of INPUT, or within OUTPUT, and sends them through (all of) OUTPUT."""
    hook = Hook.OUTPUT if own else Hook.INPUT
    outward = [at for at, one in enumerate(met) if one.base.hook is Hook.OUTPUT]
    again = [
        at for at in outward if not own or (at and met[at].base == met[0].base and met[at - 1].base != met[0].base)
    ]
    if again:
        return again[0], hook
    return next((at for at, one in enumerate(met) if one.base.hook is Hook.POSTROUTING), len(met)), hook


def _outcome(flow: Open, waited: float, virtual: Served | None) -> tuple[Outcome, str]:
    if ended := flow.ended:
        assert ended.ends is not None
        return _ENDED[ended.ends], ended.reason
    if flow.ended_back:
        return Outcome.ANSWER_LOST, f"its answer was {flow.ended_back.end}"
    if flow.answered:
        return Outcome.ANSWERED, ""
    if flow.refused:
        return Outcome.REFUSED, "whom it reached has reset the connection: nothing listens there"
    if virtual is not None and virtual.real is None:
        return Outcome.REJECTED, _NO_REAL_SERVER
    if flow.known is None:
        return Outcome.LOST, _LOST
    if flow.answer_came:
        return Outcome.ANSWER_LOST, _ANSWER_LOST
    return Outcome.UNANSWERED, f"no answer came by within {waited:.1f} s"


def in_order(met: Sequence[Met], *, own: bool) -> list[Met]:
    """What a packet has met, in the order of hooks and priorities, where both nftables and legacy tables report it.

    Each tells its own in order, but comes by a way of its own.
    """
    if len({one.base.kind == "iptables-legacy" for one in met}) < 2:
        return list(met)
    hooks = _OWN if own else _INCOMING
    return sorted(met, key=lambda one: (hooks.index(one.base.hook), one.base.priority))


def _noted(met: Sequence[Met], backend: End | None, source: End | None) -> Iterable[Hop]:
    """With what each rule did, as far as conntrack and the marks tell it."""
    for one, following in zip(met, [*met[1:], *met[-1:]], strict=True):
        note = one.hop.note
        match one.effect:
            case Effect.MARK:
                # Legacy tables report a rule before it changes the mark.
                note = f"mark {following.mark:#x}"
            case Effect.DESTINATION:
                note = f"dnat to {backend}" if backend else "dnat"
            case Effect.SOURCE:
                note = f"sent as {source}" if source else "snat"
        yield replace(one.hop, note=note)
