"""Rules of nftables: their expressions run on a packet, as the kernel runs them. Pure.

A rule that draws a number runs once for each number that it may draw. A register of which the bytes are not known
makes the match that reads it one that is not evaluated.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kpx.kernel.nft import expressions as ex
from kpx.kernel.nft.expressions import VERDICT, VerdictCode
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.sets import SetFlag, unpack
from kpx.kernel.nft.text import rule_text
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.trace.facts import Facts
from kpx.trace.iptables_rules import masqueraded
from kpx.trace.judgement import Answer, Judgement, outcomes, told, unknown
from kpx.trace.nft_loads import Value, load
from kpx.trace.outcome import Outcome, Verb
from kpx.trace.packet import Packet

_MOST_NUMBERS = 8192
_WORDS = {Family.IPV4: 4, Family.IPV6: 16}
_VERBS = {
    VerdictCode.ACCEPT: Verb.ACCEPT,
    VerdictCode.DROP: Verb.DROP,
    VerdictCode.CONTINUE: Verb.NEXT,
    VerdictCode.JUMP: Verb.JUMP,
    VerdictCode.GOTO: Verb.GOTO,
    VerdictCode.RETURN: Verb.RETURN,
}
# Expressions without a model: those that let every packet go on, and those that decide what becomes of it.
_PASSIVE = {"log", "last", "flow_offload"}
_DECIDING = {"nat", "redir", "tproxy", "queue", "fwd", "dup", "synproxy", "target"}


@dataclass(frozen=True, slots=True)
class _State:
    """A run at one point: the registers by their words, the judgements so far, and the packet."""

    packet: Packet
    registers: dict[int, Value] = field(default_factory=dict)
    judged: tuple[Judgement, ...] = ()
    share: float = 1.0
    notes: tuple[str, ...] = ()

    def holding(self, word: int, value: Value) -> _State:
        """With a value in the registers from `word` on; each register has its own 4 bytes."""
        registers = dict(self.registers)
        data = value.data
        if data is None:
            registers[word] = value
        else:
            for at in range(0, max(len(data), 1), 4):
                registers[word + at // 4] = replace(value, data=data[at : at + 4], label=value.label if not at else "")
        return replace(self, registers=registers)

    def read(self, word: int, length: int) -> bytes | None:
        """Bytes from a register on; None if some of them are not known."""
        data = b""
        while len(data) < length:
            held = self.registers.get(word)
            if held is None or held.data is None:
                return None
            data += held.data.ljust(4, b"\0")
            word += 1
        return data[:length]

    def label(self, word: int, length: int) -> str:
        """What those bytes are, in nft's words."""
        words = range(word, word + (length + 3) // 4)
        return " . ".join(held.label for one in words if (held := self.registers.get(one)) and held.label) or "a value"

    def shown(self, word: int, length: int) -> str:
        words = range(word, word + (length + 3) // 4)
        return " . ".join(held.shown for one in words if (held := self.registers.get(one)) and held.label)

    def specific(self, word: int, length: int) -> bool:
        words = range(word, word + (length + 3) // 4)
        return any(held.specific for one in words if (held := self.registers.get(one)))

    def judging(self, judgement: Judgement) -> _State:
        return replace(self, judged=(*self.judged, judgement))

    def noting(self, note: str) -> _State:
        return replace(self, notes=(*self.notes, note))

    @property
    def failed(self) -> bool:
        return bool(self.judged) and self.judged[-1].answer is Answer.NO


_End = tuple[_State, Outcome]


def still_text(family: NfFamily, rule: Rule) -> str:
    """A rule without its counter, which changes with every packet."""
    still = tuple(one for one in rule.expressions if not isinstance(one, ex.Counter))
    return rule_text(family, replace(rule, expressions=still))


class NftRule:
    """A rule as the kernel has it. Its text is without its counter, which changes with every packet."""

    def __init__(self, table: TableName, rule: Rule, facts: Facts) -> None:
        self._table = table
        self._rule = rule
        self._facts = facts

    @cached_property
    def text(self) -> str:
        return still_text(self._table.family, self._rule)

    @property
    def packets(self) -> int | None:
        counters = (one.packets for one in self._rule.expressions if isinstance(one, ex.Counter))
        return next(counters, None)

    def outcomes(self, packet: Packet) -> Sequence[Outcome]:
        found: list[Outcome] = []
        missed: Outcome | None = None
        for state, then in self._run(_State(packet), self._rule.expressions):
            if then.packet.mark != packet.mark:
                then = replace(then, effective=True)
            for one in outcomes(packet, state.judged, then):
                scaled = replace(one, share=None if one.share is None else one.share * state.share)
                if one.matched or one.assumes:
                    found.append(scaled)
                elif missed is None:
                    missed = scaled
                else:
                    missed = replace(missed, share=(missed.share or 0.0) + (scaled.share or 0.0))
        return [*([missed] if missed else []), *found]

    def _run(self, state: _State, expressions: Sequence[ex.Expression]) -> Iterator[_End]:
        for at, expression in enumerate(expressions):
            if isinstance(expression, ex.Numgen):
                yield from self._draw(state, expression, expressions[at + 1 :])
                return
            after = self._step(state, expression)
            if isinstance(after, Outcome):
                yield state, self._noted(state, after)
                return
            state = after
            if state.failed:
                break
        yield state, self._noted(state, Outcome(Verb.NEXT, state.packet))

    def _draw(self, state: _State, draw: ex.Numgen, rest: Sequence[ex.Expression]) -> Iterator[_End]:
        if draw.modulus > _MOST_NUMBERS:
            yield from self._run(state.holding(draw.target, Value("numgen")), rest)
            return
        for number in range(draw.offset, draw.offset + draw.modulus):
            value = Value("numgen", number.to_bytes(4, sys.byteorder), str(number))
            drawn = replace(state, share=state.share / draw.modulus).holding(draw.target, value)
            yield from self._run(drawn, rest)

    def _noted(self, state: _State, outcome: Outcome) -> Outcome:
        return replace(outcome, note=", ".join(filter(None, (*state.notes, outcome.note))))

    def _step(self, state: _State, expression: ex.Expression) -> _State | Outcome:
        """What one expression does: the run goes on, or ends with an outcome."""
        if isinstance(expression, ex.Payload | ex.Meta | ex.Ct | ex.Fib):
            if isinstance(expression, ex.Meta | ex.Ct) and expression.source is not None:
                return _set(state, expression)
            return state.holding(expression.target or 0, load(expression, state.packet, self._facts))
        if isinstance(expression, ex.Lookup):
            return self._lookup(state, expression)
        step = _STEPS.get(type(expression))
        return step(state, expression) if step else self._end(state, expression)

    def _end(self, state: _State, expression: ex.Expression) -> _State | Outcome:
        match expression:
            case ex.Nat():
                return self._nat(state, expression)
            case ex.Masquerade():
                return masqueraded(state.packet, self._facts, random=bool(expression.flags & _RANDOM))
            case ex.Reject():
                return Outcome(Verb.REJECT, state.packet, note="reject", effective=True)
        return state

    def _lookup(self, state: _State, lookup: ex.Lookup) -> _State | Outcome:
        declared = self._facts.nft_set(self._table, lookup.set)
        if declared is None:
            return state.judging(unknown(f"@{lookup.set} (there is no such set)"))
        length = declared.key_length
        label, key = state.label(lookup.source, length), state.read(lookup.source, length)
        if key is None:
            return self._doubtful(state, lookup, unknown(f"{label} in @{lookup.set}"))
        if SetFlag.DYNAMIC in declared.flags:
            asked = Judgement(Answer.HISTORY, f"{label} is in @{lookup.set}")
            return self._doubtful(state, lookup, asked)
        element = self._facts.element(self._table, lookup.set, key)
        shown = state.shown(lookup.source, length) or " . ".join(unpack(declared.key, key))
        found = (element is not None) != bool(lookup.flags)
        where = f"{label} {shown} is {'not ' if element is None else ''}in @{lookup.set}"
        state = state.judging(told(found, where, specific=state.specific(lookup.source, length)))
        if element is None or lookup.target is None:
            return state
        if element.comment:
            state = state.noting(element.comment)
        if isinstance(element.data, ex.Verdict):
            return replace(_verdict(state.packet, element.data), effective=True)
        return state.holding(lookup.target, Value("", element.data)) if element.data is not None else state

    def _doubtful(self, state: _State, lookup: ex.Lookup, asked: Judgement) -> _State | Outcome:
        if lookup.target == VERDICT:
            return Outcome(Verb.STOP, state.packet, note=f"what it finds in @{lookup.set} is not known", effective=True)
        state = state.judging(asked)
        return state if lookup.target is None else state.holding(lookup.target, Value(f"@{lookup.set}"))

    def _nat(self, state: _State, nat: ex.Nat) -> Outcome:
        packet = state.packet
        length = _WORDS[packet.family]
        address = _address(state.read(nat.address, length)) if nat.address is not None else ""
        port = state.read(nat.port, 2) if nat.port is not None else None
        if address is None or (nat.port is not None and port is None):
            return Outcome(Verb.STOP, packet, note="where it is translated to is not known", effective=True)
        number = int.from_bytes(port, "big") if port is not None else None
        if nat.type == ex.NatType.DNAT:
            changed = packet.translated(address, number)
            return Outcome(Verb.ACCEPT, changed, note=f"dnat to {changed.target}", effective=True)
        random = bool(nat.flags & _RANDOM) or number is not None
        changed = packet.sent_as(address or packet.source, random_port=random)
        return Outcome(Verb.ACCEPT, changed, note=f"snat to {changed.source}", effective=True)


_RANDOM = ex.NatFlag.RANDOM | ex.NatFlag.FULLY_RANDOM


def _address(data: bytes | None) -> str | None:
    if data is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def _verdict(packet: Packet, verdict: ex.Verdict) -> Outcome:
    verb = _VERBS.get(verdict.code, Verb.NEXT)
    effective = verb in (Verb.ACCEPT, Verb.DROP)
    return Outcome(verb, packet, chain=verdict.chain, note=str(verdict), effective=effective)


def _set(state: _State, change: ex.Meta | ex.Ct) -> _State:
    """A statement that sets a mark; others change nothing that is followed here."""
    data = state.read(change.source or 0, 4)
    marks = isinstance(change, ex.Meta) and change.key == ex.MetaKey.MARK
    marks_flow = isinstance(change, ex.Ct) and change.key == ex.CtKey.MARK
    if not (marks or marks_flow):
        return state
    if data is None:
        return state.judging(unknown("the value of a mark"))
    mark = int.from_bytes(data, sys.byteorder)
    if marks_flow:
        return replace(state, packet=replace(state.packet, ct_mark=mark)).noting(f"ct mark {mark:#x}")
    return replace(state, packet=replace(state.packet, mark=mark)).noting(f"mark {mark:#x}")


def _immediate(state: _State, constant: ex.Immediate) -> _State | Outcome:
    if isinstance(constant.data, ex.Verdict):
        return _verdict(state.packet, constant.data)
    return state.holding(constant.target, Value("", constant.data))


def _limit(state: _State, _limit: ex.Limit) -> _State:
    return state.judging(unknown("limit rate"))


def _bitwise(state: _State, change: ex.Bitwise) -> _State:
    data = state.read(change.source, change.length)
    held = state.registers.get(change.source, Value("a value"))
    if data is None:
        return state.holding(change.target, Value(held.label))
    masked = bytes(one & kept ^ flip for one, kept, flip in zip(data, change.mask, change.xor, strict=True))
    return state.holding(change.target, replace(held, data=masked))


def _compare(state: _State, comparison: ex.Cmp) -> _State:
    value = comparison.value
    data = state.read(comparison.source, len(value))
    label = state.label(comparison.source, len(value))
    if data is None:
        return state.judging(unknown(label))
    holds = {
        ex.CmpOp.EQ: data == value,
        ex.CmpOp.NE: data != value,
        ex.CmpOp.LT: data < value,
        ex.CmpOp.LE: data <= value,
        ex.CmpOp.GT: data > value,
        ex.CmpOp.GE: data >= value,
    }[ex.CmpOp(comparison.op)]
    specific = comparison.op == ex.CmpOp.EQ and state.specific(comparison.source, len(value))
    return state.judging(told(holds, f"{label} is {state.shown(comparison.source, len(value))}", specific=specific))


def _range(state: _State, comparison: ex.Range) -> _State:
    length = len(comparison.first)
    data = state.read(comparison.source, length)
    label = state.label(comparison.source, length)
    if data is None:
        return state.judging(unknown(label))
    inside = comparison.first <= data <= comparison.last
    shown = state.shown(comparison.source, length)
    return state.judging(told(inside == (comparison.op == ex.CmpOp.EQ), f"{label} is {shown}"))


def _update(state: _State, update: ex.Dynset) -> _State:
    if update.expression is not None and not isinstance(update.expression, ex.Counter):
        return state.judging(unknown(f"update @{update.set}"))
    return state


def _without_model(state: _State, expression: ex.Unknown) -> _State | Outcome:
    if expression.kind in _PASSIVE:
        return state
    if expression.kind == "notrack":
        return replace(state, packet=replace(state.packet, state="UNTRACKED")).noting("notrack")
    if expression.kind in _DECIDING:
        return Outcome(Verb.STOP, state.packet, note=f"what [ {expression.kind} ] does is not modelled", effective=True)
    # It may have loaded something into any register.
    return replace(state, registers={}).judging(unknown(f"[ {expression.kind} ]"))


_STEPS: dict[type[Any], Callable[[_State, Any], _State | Outcome]] = {
    ex.Bitwise: _bitwise,
    ex.Cmp: _compare,
    ex.Range: _range,
    ex.Immediate: _immediate,
    ex.Limit: _limit,
    ex.Dynset: _update,
    ex.Unknown: _without_model,
}
