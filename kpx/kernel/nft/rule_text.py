"""A rule's expressions in nft's language.

The expressions name registers; the text names what was loaded into them. So the writer walks over them in order and
keeps, for each register, the words for what it holds. What nft has no words for stands in brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft import expressions as ex
from kpx.kernel.nft.datatypes import AddressType, DataType, NumberType
from kpx.kernel.nft.selectors import Load, loaded_by
from kpx.kernel.nft.wire import NfFamily

_OPERATORS = {
    ex.CmpOp.EQ: "",
    ex.CmpOp.NE: "!= ",
    ex.CmpOp.LT: "< ",
    ex.CmpOp.LE: "<= ",
    ex.CmpOp.GT: "> ",
    ex.CmpOp.GE: ">= ",
}
_BASES: dict[int, str] = {ex.PayloadBase.LINK: "ll", ex.PayloadBase.NETWORK: "nh", ex.PayloadBase.TRANSPORT: "th"}
_NAT_FLAGS = {4: "random", 8: "persistent", 16: "fully-random"}
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
_ICMPX = {0: "no-route", 1: "port-unreachable", 2: "host-unreachable", 3: "admin-prohibited"}
_PORT_UNREACHABLE = {(NfFamily.IP, 0, 3), (NfFamily.IP6, 0, 4), (NfFamily.INET, 2, 1), (NfFamily.BRIDGE, 2, 1)}


@dataclass(frozen=True, slots=True)
class _Held:
    """What a register holds: its words, its type where there is one, a constant's bytes, what was masked of it."""

    text: str
    type: DataType | None = None
    constant: bytes | None = None
    mask: bytes | None = None
    xor: bytes = b""


class _Writer:
    """Writes one rule."""

    def __init__(self, family: NfFamily) -> None:
        self._family = family
        self._registers: dict[int, _Held] = {}
        self._words: list[str] = []

    def write(self, expressions: Iterable[ex.Expression]) -> str:
        for expression in expressions:
            words = _HANDLERS[type(expression)](self, expression)
            if words:
                self._words.append(words)
        return " ".join(self._words)

    def unknown(self, expression: ex.Unknown) -> str:
        return f"[ {expression.kind} ]"

    def load(self, load: Load) -> str:
        if isinstance(load, (ex.Meta, ex.Ct)) and load.source is not None:
            return self._set(load)
        self._registers[load.target or 0] = _selected(load)
        return ""

    def _set(self, change: ex.Meta | ex.Ct) -> str:
        named = _selected(replace(change, target=0, source=None))
        held = self._take(change.source or 0)
        return f"{named.text} set {_changed(held, named.type)}"

    def bitwise(self, change: ex.Bitwise) -> str:
        held = self._registers.get(change.source, _NOTHING)
        self._registers[change.target] = replace(held, mask=change.mask, xor=change.xor)
        return ""

    def immediate(self, load: ex.Immediate) -> str:
        if isinstance(load.data, ex.Verdict):
            return str(load.data)
        self._registers[load.target] = _Held("0x" + load.data.hex(), constant=load.data)
        return ""

    def cmp(self, comparison: ex.Cmp) -> str:
        # nft compares one register twice for a range, so what was loaded stays.
        return _comparison(self._registers.get(comparison.source, _NOTHING), comparison.op, comparison.value)

    def range(self, comparison: ex.Range) -> str:
        held = self._take(comparison.source)
        ends = f"{_value(held.type, comparison.first)}-{_value(held.type, comparison.last)}"
        return f"{held.text} {_OPERATORS[ex.CmpOp(comparison.op)]}{ends}"

    def lookup(self, lookup: ex.Lookup) -> str:
        key = self._key(lookup.source)
        if lookup.target is None:
            return f"{key} {'!= ' if lookup.flags else ''}@{lookup.set}"
        if lookup.target == ex.VERDICT:
            return f"{key} vmap @{lookup.set}"
        self._registers[lookup.target] = _Held(f"{key} map @{lookup.set}")
        return ""

    def dynset(self, update: ex.Dynset) -> str:
        parts = [self._key(update.key)]
        if update.timeout:
            parts.append(f"timeout {update.timeout}ms")
        if isinstance(update.expression, ex.Counter):
            parts.append("counter")
        return f"{ex.DynsetOp(update.op).name.lower()} @{update.set} {{ {' '.join(parts)} }}"

    def nat(self, nat: ex.Nat) -> str:
        kind = types.ipv6_addr if nat.family == NfFamily.IP6 else types.ipv4_addr
        address = self._registers.get(nat.address, _NOTHING) if nat.address is not None else _NOTHING
        port = self._registers.get(nat.port) if nat.port is not None else None
        target = address.text if address.constant is None else kind.text(address.constant)
        if port is not None and port.constant is not None:
            target = f"[{target}]" if ":" in target else target
            target += f":{types.inet_service.text(port.constant)}"
        self._registers.clear()
        mapped_port = nat.port is not None and (port is None or port.constant is None)
        family = f"{NfFamily(nat.family).nft_name} " if mapped_port or self._family != nat.family else ""
        return " ".join([ex.NatType(nat.type).name.lower(), f"{family}to", target, *_nat_flags(nat.flags)])

    def masquerade(self, nat: ex.Masquerade) -> str:
        return " ".join(["masquerade", *_nat_flags(nat.flags)])

    def reject(self, reject: ex.Reject) -> str:
        if (self._family, reject.type, reject.code) in _PORT_UNREACHABLE:
            return "reject"
        if reject.type == ex.RejectType.TCP_RESET:
            return "reject with tcp reset"
        if reject.type == ex.RejectType.ICMPX:
            return f"reject with icmpx {_ICMPX.get(reject.code or 0, reject.code)}"
        return f"reject with {'icmpv6' if self._family is NfFamily.IP6 else 'icmp'} {reject.code}"

    def counter(self, counter: ex.Counter) -> str:
        return f"counter packets {counter.packets} bytes {counter.bytes}"

    def limit(self, limit: ex.Limit) -> str:
        over, unit = "over " if limit.flags else "", _UNITS.get(limit.unit, f"{limit.unit} seconds")
        if limit.type:
            return f"limit rate {over}{limit.rate} bytes/{unit} burst {limit.burst} bytes"
        return f"limit rate {over}{limit.rate}/{unit} burst {limit.burst} packets"

    def _take(self, word: int) -> _Held:
        held = self._registers.get(word, _NOTHING)
        self._registers.clear()
        return held

    def _key(self, word: int) -> str:
        """What is loaded side by side from a register on, as a concatenation."""
        parts = []
        while word in self._registers:
            held = self._registers[word]
            parts.append(_changed(held, held.type))
            word += held.type.words if held.type else 1
        self._registers.clear()
        return " . ".join(parts)


_NOTHING = _Held("[ nothing ]")


def _selected(load: Load) -> _Held:
    """What a load loads. nft may load only the first bytes of an address: those that a prefix covers."""
    selector = loaded_by(load)
    if selector is None and isinstance(load, ex.Payload):
        whole = (loaded_by(replace(load, length=length)) for length in (4, 16) if load.length < length)
        selector = next((each for each in whole if each is not None), None)
    if selector is not None:
        return _Held(selector.text, selector.type)
    if isinstance(load, ex.Payload) and load.base in _BASES:
        return _Held(f"@{_BASES[load.base]},{load.offset * 8},{load.length * 8}")
    return _Held(f"[ {load} ]")


def _value(kind: DataType | None, data: bytes) -> str:
    return kind.text(data) if kind and len(data) == kind.length else "0x" + data.hex()


def _changed(held: _Held, kind: DataType | None) -> str:
    """What is in a register, with what a mask made of it."""
    if held.constant is not None:
        return _value(kind, held.constant)
    if held.mask is None:
        return held.text
    kept = int.from_bytes(held.mask, "big")
    flipped = int.from_bytes(held.xor, "big")
    every = (1 << 8 * len(held.mask)) - 1
    if kept == every:
        return f"{held.text} ^ {_value(kind, held.xor)}"
    if kept ^ flipped == every:
        return f"{held.text} | {_value(kind, held.xor)}"
    flip = f" ^ {_value(kind, held.xor)}" if flipped else ""
    return f"{held.text} & {_value(kind, held.mask)}{flip}"


def _comparison(held: _Held, op: int, value: bytes) -> str:
    operator = _OPERATORS[ex.CmpOp(op)]
    if isinstance(held.type, AddressType):
        bits = 8 * len(value) if held.mask is None else _prefix_bits(held.mask)
        if bits is not None:
            network = held.type.text(value.ljust(held.type.length, b"\0"))
            return f"{held.text} {operator}{network}" + (f"/{bits}" if bits < 8 * held.type.length else "")
    if held.mask is None:
        return f"{held.text} {operator}{_value(held.type, value)}"
    if isinstance(held.type, NumberType) and held.type.bitmask and op == ex.CmpOp.NE and not any(value):
        return f"{held.text} {_value(held.type, held.mask)}"
    return f"{_changed(held, held.type)} {operator or '== '}{_value(held.type, value)}"


def _prefix_bits(mask: bytes) -> int | None:
    """The length of the prefix that a mask keeps, or None if it keeps other bits."""
    inverse = ~int.from_bytes(mask, "big") & (1 << 8 * len(mask)) - 1
    return 8 * len(mask) - inverse.bit_length() if inverse & inverse + 1 == 0 else None


def _nat_flags(flags: int) -> list[str]:
    names = ",".join(name for bit, name in _NAT_FLAGS.items() if flags & bit)
    return [names] if names else []


_HANDLERS: dict[type[Any], Callable[[_Writer, Any], str]] = {
    ex.Payload: _Writer.load,
    ex.Meta: _Writer.load,
    ex.Ct: _Writer.load,
    ex.Fib: _Writer.load,
    ex.Numgen: _Writer.load,
    ex.Bitwise: _Writer.bitwise,
    ex.Immediate: _Writer.immediate,
    ex.Cmp: _Writer.cmp,
    ex.Range: _Writer.range,
    ex.Lookup: _Writer.lookup,
    ex.Dynset: _Writer.dynset,
    ex.Nat: _Writer.nat,
    ex.Masquerade: _Writer.masquerade,
    ex.Reject: _Writer.reject,
    ex.Counter: _Writer.counter,
    ex.Limit: _Writer.limit,
    ex.Unknown: _Writer.unknown,
}


def expressions_text(family: NfFamily, expressions: Iterable[ex.Expression]) -> str:
    """A rule's expressions as nft prints them in a table of that family."""
    return _Writer(family).write(expressions)
