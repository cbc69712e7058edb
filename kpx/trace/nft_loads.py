"""What an expression of nftables loads of a packet into a register. Pure."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft import expressions as ex
from kpx.kernel.nft.selectors import loaded_by
from kpx.net import Family, packed
from kpx.trace.facts import Routes
from kpx.trace.packet import PROTOCOL_NUMBERS, Packet

_STATES = {"INVALID": 1, "ESTABLISHED": 2, "RELATED": 4, "NEW": 8, "UNTRACKED": 0x40}
_SOURCE_NAT, _DESTINATION_NAT, _SOURCE_DONE, _DESTINATION_DONE = 0x10, 0x20, 0x80, 0x100
_ETHERTYPES = {Family.IPV4: 0x0800, Family.IPV6: 0x86DD}
_NF_PROTO = {Family.IPV4: 2, Family.IPV6: 10}
_META_PROTOCOL = 1
_NAME_BYTES = 16
_SYN = 0x02


@dataclass(frozen=True, slots=True)
class Value:
    """What a register holds: its bytes, or None where they are not known; ``label`` says of what, in nft's words."""

    label: str
    data: bytes | None = None
    shown: str = ""
    specific: bool = False


def load(expression: ex.Payload | ex.Meta | ex.Ct | ex.Fib, packet: Packet, facts: Routes) -> Value:
    """The value that an expression loads."""
    data = _data(expression, packet, facts)
    selector = loaded_by(expression)
    label = selector.text if selector else _label(expression)
    if data is None:
        return Value(label)
    shown = selector.type.text(data) if selector and len(data) == selector.type.length else f"0x{data.hex()}"
    return Value(label, data, shown, label.endswith(("daddr", "dport")))


def _label(expression: ex.Payload | ex.Meta | ex.Ct | ex.Fib) -> str:
    if isinstance(expression, ex.Payload):
        base = {0: "ll", 1: "nh", 2: "th"}.get(expression.base, str(expression.base))
        return f"@{base},{expression.offset * 8},{expression.length * 8}"
    return f"{type(expression).__name__.lower()} {expression.key if not isinstance(expression, ex.Fib) else ''}".strip()


def _data(expression: ex.Payload | ex.Meta | ex.Ct | ex.Fib, packet: Packet, facts: Routes) -> bytes | None:
    match expression:
        case ex.Payload():
            return _payload(expression, packet)
        case ex.Meta():
            return _meta(expression.key, packet, facts)
        case ex.Ct():
            return _ct(expression, packet)
    return _fib(expression, packet, facts)


def _payload(load: ex.Payload, packet: Packet) -> bytes | None:
    """Bytes of the headers, as far as they are known before the packet is sent."""
    known: dict[int, int] = {}

    def put(offset: int, data: bytes) -> None:
        known.update(enumerate(data, offset))

    if load.base == ex.PayloadBase.NETWORK:
        four = packet.family is Family.IPV4
        put(9 if four else 6, bytes([PROTOCOL_NUMBERS[packet.protocol]]))
        if packet.source:
            put(12 if four else 8, packed(packet.source))
        put(16 if four else 24, packed(packet.destination))
    elif load.base == ex.PayloadBase.TRANSPORT:
        put(2, packet.port.to_bytes(2, "big"))
        if packet.protocol == "tcp" and packet.state == "NEW":
            put(13, bytes([_SYN]))
    wanted = range(load.offset, load.offset + load.length)
    return bytes(known[at] for at in wanted) if all(at in known for at in wanted) else None


def _number(value: int, length: int = 4) -> bytes:
    return value.to_bytes(length, sys.byteorder)


def _meta(key: int, packet: Packet, facts: Routes) -> bytes | None:
    match key:
        case ex.MetaKey.MARK:
            return _number(packet.mark)
        case ex.MetaKey.IIF:
            return _number(facts.interface_index(packet.incoming))
        case ex.MetaKey.OIF:
            return _number(facts.interface_index(packet.outgoing))
        case ex.MetaKey.IIFNAME:
            return packet.incoming.encode().ljust(_NAME_BYTES, b"\0")
        case ex.MetaKey.OIFNAME:
            return packet.outgoing.encode().ljust(_NAME_BYTES, b"\0")
        case ex.MetaKey.NFPROTO:
            return bytes([_NF_PROTO[packet.family]])
        case ex.MetaKey.L4PROTO:
            return bytes([PROTOCOL_NUMBERS[packet.protocol]])
        case n if n == _META_PROTOCOL:
            return _ETHERTYPES[packet.family].to_bytes(2, "big")
    return None


def _ct(load: ex.Ct, packet: Packet) -> bytes | None:
    if load.direction is not None:
        return None
    match load.key:
        case ex.CtKey.STATE:
            return _number(_STATES[packet.state])
        case ex.CtKey.DIRECTION:
            return b"\0"
        case ex.CtKey.STATUS:
            status = _DESTINATION_NAT * packet.destination_translated | _SOURCE_NAT * packet.source_translated
            done = _DESTINATION_DONE * packet.destination_bound | _SOURCE_DONE * packet.source_bound
            return _number(status | done)
        case ex.CtKey.MARK:
            return _number(packet.ct_mark)
    return None


def _fib(load: ex.Fib, packet: Packet, facts: Routes) -> bytes | None:
    if load.result != ex.FibResult.ADDRTYPE or load.flags not in (ex.FibFlag.SADDR, ex.FibFlag.DADDR):
        return None
    address = packet.source if load.flags == ex.FibFlag.SADDR else packet.destination
    number = types.fib_addrtype.names.get(facts.address_type(address))
    return None if number is None else _number(number)
