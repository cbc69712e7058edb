"""The vocabulary that rules are written in: selectors and actions in the order in which nft's language has them.

``rule("services", ip_daddr, l4proto, th_dport, vmap("service-ips"))`` is nft's
``ip daddr . meta l4proto . th dport vmap @service-ips``. Selectors in a row are loaded side by side, each at a multiple
of 4 bytes, from register 0; the action that follows them takes them all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.datatypes import AddressType
from kpx.kernel.nft.expressions import (
    VERDICT,
    Bitwise,
    Cmp,
    CmpOp,
    Counter,
    Dynset,
    DynsetOp,
    Expression,
    Immediate,
    Limit,
    Lookup,
    Masquerade,
    Meta,
    MetaKey,
    Nat,
    NatFlag,
    NatType,
    Range,
    Reject,
    RejectType,
    Verdict,
    VerdictCode,
)
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.selectors import Selector, meta_mark
from kpx.kernel.nft.wire import NfFamily

_PORT_UNREACHABLE = {NfFamily.IP: 3, NfFamily.IP6: 4}  # ICMP_PORT_UNREACH, ICMPV6_PORT_UNREACH
_ICMPX_PORT_UNREACHABLE = 1
_ADDRESS_WORDS = {NfFamily.IP: 1, NfFamily.IP6: 4}


@dataclass(frozen=True, slots=True)
class Action:
    """A part of a rule that does something with the selectors loaded before it (with none, if it needs none)."""

    expressions: Callable[[tuple[Selector, ...]], Iterable[Expression]]


def rule(chain: str, *terms: Selector | Action, comment: str = "") -> Rule:
    """A rule of a chain. Raises ValueError if its last selectors are not used."""
    expressions: list[Expression] = []
    loaded: list[Selector] = []
    word = 0
    for term in terms:
        if isinstance(term, Selector):
            expressions.append(term.at(word))
            loaded.append(term)
            word += term.words
        else:
            expressions.extend(term.expressions(tuple(loaded)))
            loaded.clear()
            word = 0
    if loaded:
        raise ValueError(f"a rule of {chain} ends in {loaded[-1].text}, which nothing uses")
    return Rule(chain, tuple(expressions), comment)


def _always(*expressions: Expression) -> Action:
    """An action that takes no selectors."""

    def act(loaded: tuple[Selector, ...]) -> Iterable[Expression]:
        if loaded:
            raise ValueError(f"{expressions[-1]} does not use {loaded[-1].text}")
        return expressions

    return Action(act)


def _with_key(expression: Expression) -> Action:
    """An action on all selectors before it."""

    def act(loaded: tuple[Selector, ...]) -> Iterable[Expression]:
        if not loaded:
            raise ValueError(f"{expression} has no selector before it")
        return (expression,)

    return Action(act)


def _with_one(expressions: Callable[[Selector], Iterable[Expression]]) -> Action:
    """An action on the one selector before it."""

    def act(loaded: tuple[Selector, ...]) -> Iterable[Expression]:
        if len(loaded) != 1:
            raise ValueError(f"a comparison takes one selector, not {[each.text for each in loaded]}")
        return expressions(loaded[0])

    return Action(act)


def eq(value: str | int) -> Action:
    """``ip saddr 10.0.0.1``, ``ip saddr 10.0.0.0/8``."""
    return _with_one(lambda selector: _compare(selector, CmpOp.EQ, value))


def ne(value: str | int) -> Action:
    """``ip daddr != 127.0.0.0/8``."""
    return _with_one(lambda selector: _compare(selector, CmpOp.NE, value))


def lt(value: int) -> Action:
    """``th dport < 1024``."""
    return _with_one(lambda selector: _compare(selector, CmpOp.LT, value))


def gt(value: int) -> Action:
    """``th dport > 1023``."""
    return _with_one(lambda selector: _compare(selector, CmpOp.GT, value))


def _compare(selector: Selector, op: CmpOp, value: str | int) -> list[Expression]:
    if isinstance(selector.type, AddressType) and "/" in str(value):
        network = ipaddress.ip_network(value)
        mask = network.netmask.packed
        return [Bitwise(mask, bytes(len(mask)), len(mask)), Cmp(op, network.network_address.packed)]
    return [Cmp(op, selector.type.pack(value))]


def between(first: str | int, last: str | int) -> Action:
    """``th dport 30000-32767``."""
    return _with_one(lambda selector: [_range(CmpOp.EQ, selector, first, last)])


def outside(first: str | int, last: str | int) -> Action:
    """``th dport != 30000-32767``."""
    return _with_one(lambda selector: [_range(CmpOp.NE, selector, first, last)])


def _range(op: CmpOp, selector: Selector, first: str | int, last: str | int) -> Range:
    return Range(op, selector.type.pack(first), selector.type.pack(last))


def has(bits: str | int) -> Action:
    """At least one of the bits: ``ct state new``, ``meta mark & 0x00004000 != 0``."""
    return _with_one(lambda selector: _any_bit(selector, selector.type.pack(bits)))


def _any_bit(selector: Selector, mask: bytes) -> list[Expression]:
    zero = bytes(selector.type.length)
    return [Bitwise(mask, zero, len(mask)), Cmp(CmpOp.NE, zero)]


def among(name: str) -> Action:
    """``ip daddr @cluster-ips``."""
    return _with_key(Lookup(name))


def not_among(name: str) -> Action:
    """``ip daddr != @cluster-ips``."""
    return _with_key(Lookup(name, flags=1))


def vmap(name: str) -> Action:
    """``ip daddr . meta l4proto . th dport vmap @service-ips``: the verdict of the element found."""
    return _with_key(Lookup(name, target=VERDICT))


def map_to(name: str) -> Action:
    """``... map @endpoints``: the data of the element found, for the `dnat` that follows."""
    return _with_key(Lookup(name, target=0))


def update(name: str, timeout: int = 0) -> Action:
    """``update @affinity { ip saddr }``; `timeout` in milliseconds, 0 for the set's own."""
    return _with_key(Dynset(name, DynsetOp.UPDATE, timeout=timeout))


def dnat(family: NfFamily) -> Action:
    """``dnat ip to ... map @endpoints``: to the address and port that `map_to` before it found."""
    return _always(Nat(NatType.DNAT, family, address=0, port=_ADDRESS_WORDS[family]))


def dnat_to(address: str, port: int) -> Action:
    """``dnat to 10.0.0.1:8080``. The rule must match the transport protocol first, for nft to read it again."""
    kind, family = (types.ipv6_addr, NfFamily.IP6) if ":" in address else (types.ipv4_addr, NfFamily.IP)
    return _always(
        Immediate(kind.pack(address)),
        Immediate(types.inet_service.pack(port), kind.words),
        Nat(NatType.DNAT, family, address=0, port=kind.words),
    )


def masquerade(*, fully_random: bool = True) -> Action:
    """``masquerade fully-random``."""
    return _always(Masquerade(NatFlag.FULLY_RANDOM if fully_random else 0))


def mark_or(bits: int) -> Action:
    """``meta mark set meta mark | 0x00004000``."""
    return _change_mark(~bits & 0xFFFFFFFF, bits)


def mark_xor(bits: int) -> Action:
    """``meta mark set meta mark ^ 0x00004000``."""
    return _change_mark(0xFFFFFFFF, bits)


def _change_mark(mask: int, xor: int) -> Action:
    pack = types.mark.pack
    return _always(
        meta_mark.at(0), Bitwise(pack(mask), pack(xor), types.mark.length), Meta(MetaKey.MARK, target=None, source=0)
    )


def counter() -> Action:
    """``counter``."""
    return _always(Counter())


def limit(rate: int, burst: int = 5) -> Action:
    """``limit rate 5/second burst 7 packets``."""
    return _always(Limit(rate, burst=burst))


def reject(family: NfFamily) -> Action:
    """``reject``: port unreachable, by ICMP of the family (in an inet table, of the packet)."""
    code = _PORT_UNREACHABLE.get(family)
    return _always(Reject(RejectType.ICMPX, _ICMPX_PORT_UNREACHABLE) if code is None else Reject(RejectType.ICMP, code))


def reject_with_reset() -> Action:
    """``reject with tcp reset``, after a match of TCP."""
    return _always(Reject(RejectType.TCP_RESET))


def _verdict(code: VerdictCode, chain: str = "") -> Action:
    return _always(Immediate(Verdict(code, chain), VERDICT))


accept = _verdict(VerdictCode.ACCEPT)
drop = _verdict(VerdictCode.DROP)
leave = _verdict(VerdictCode.RETURN)  # nft's ``return``


def jump(chain: str) -> Action:
    """``jump services``."""
    return _verdict(VerdictCode.JUMP, chain)


def goto(chain: str) -> Action:
    """``goto lb-4``."""
    return _verdict(VerdictCode.GOTO, chain)
