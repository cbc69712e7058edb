"""What a rule can look at, by the names that nft has for it: ``ip daddr``, ``meta l4proto``, ``numgen random mod 5``.

A selector knows the expression that loads it, its type, and the bytes by which nft prints a set's key or data as
``typeof ip daddr . meta l4proto``. Those numbers are nft's own (``enum expr_types``, ``enum proto_desc_id`` and the
fields of its protocol tables), as nft 1.0.6 writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.datatypes import DataType
from kpx.kernel.nft.expressions import (
    Ct,
    CtKey,
    Expression,
    Fib,
    FibFlag,
    FibResult,
    Meta,
    MetaKey,
    Numgen,
    Payload,
    PayloadBase,
)
from kpx.kernel.nft.userdata import number, read_number, record, records
from kpx.kernel.nft.wire import NfFamily

_EXPR_VERDICT, _EXPR_PAYLOAD, _EXPR_META, _EXPR_CT, _EXPR_CONCAT, _EXPR_NUMGEN, _EXPR_FIB = 1, 7, 9, 12, 13, 23, 26
_DESC_TH, _DESC_IP, _DESC_IP6 = 11, 12, 13
_TYPEOF_EXPR, _TYPEOF_DATA = 0, 1
_NO_DIRECTION = 0xFFFFFFFF

Load = Payload | Meta | Ct | Fib | Numgen


def typeof_record(kind: int, data: bytes) -> bytes:
    """An expression as nft keeps it in a set's user data: its kind and what belongs to that kind."""
    return number(_TYPEOF_EXPR, kind) + record(_TYPEOF_DATA, data)


@dataclass(frozen=True, slots=True)
class Selector:
    """Something that can be loaded into a register; `load` names register 0, `at` any other."""

    text: str
    type: DataType
    load: Load
    typeof: bytes

    @property
    def words(self) -> int:
        """How many 4-byte registers it takes."""
        return self.type.words

    def at(self, word: int) -> Expression:
        """The expression that loads it into the register that begins with `word`."""
        return replace(self.load, target=word) if word else self.load


Field = DataType | Selector


def _payload(text: str, kind: DataType, base: PayloadBase, offset: int, desc: int, field: int) -> Selector:
    typeof = typeof_record(_EXPR_PAYLOAD, number(0, desc) + number(1, field))
    return Selector(text, kind, Payload(base, offset, kind.length, 0), typeof)


def _meta(text: str, kind: DataType, key: MetaKey) -> Selector:
    return Selector(text, kind, Meta(key, 0), typeof_record(_EXPR_META, number(0, key)))


def _ct(text: str, kind: DataType, key: CtKey) -> Selector:
    typeof = typeof_record(_EXPR_CT, number(0, key) + number(1, _NO_DIRECTION))
    return Selector(text, kind, Ct(key, 0), typeof)


def _fib(text: str, flag: FibFlag) -> Selector:
    typeof = typeof_record(_EXPR_FIB, number(0, FibResult.ADDRTYPE) + number(1, flag))
    return Selector(text, types.fib_addrtype, Fib(FibResult.ADDRTYPE, flag, 0), typeof)


def numgen_random(modulus: int, offset: int = 0) -> Selector:
    """A random number from `offset` to `offset` + `modulus` - 1, in the machine's byte order."""
    text = f"numgen random mod {modulus}" + (f" offset {offset}" if offset else "")
    load = Numgen(modulus, offset=offset)
    typeof = typeof_record(_EXPR_NUMGEN, number(0, load.type) + number(1, modulus) + number(2, offset))
    return Selector(text, types.integer, load, typeof)


ip_saddr = _payload("ip saddr", types.ipv4_addr, PayloadBase.NETWORK, 12, _DESC_IP, 11)
ip_daddr = _payload("ip daddr", types.ipv4_addr, PayloadBase.NETWORK, 16, _DESC_IP, 12)
ip6_saddr = _payload("ip6 saddr", types.ipv6_addr, PayloadBase.NETWORK, 8, _DESC_IP6, 8)
ip6_daddr = _payload("ip6 daddr", types.ipv6_addr, PayloadBase.NETWORK, 24, _DESC_IP6, 9)
th_sport = _payload("th sport", types.inet_service, PayloadBase.TRANSPORT, 0, _DESC_TH, 1)
th_dport = _payload("th dport", types.inet_service, PayloadBase.TRANSPORT, 2, _DESC_TH, 2)
l4proto = _meta("meta l4proto", types.inet_proto, MetaKey.L4PROTO)
nfproto = _meta("meta nfproto", types.nf_proto, MetaKey.NFPROTO)
meta_mark = _meta("meta mark", types.mark, MetaKey.MARK)
iifname = _meta("iifname", types.ifname, MetaKey.IIFNAME)
oifname = _meta("oifname", types.ifname, MetaKey.OIFNAME)
ct_state = _ct("ct state", types.ct_state, CtKey.STATE)
ct_status = _ct("ct status", types.ct_status, CtKey.STATUS)
ct_mark = _ct("ct mark", types.mark, CtKey.MARK)
fib_saddr_type = _fib("fib saddr type", FibFlag.SADDR)
fib_daddr_type = _fib("fib daddr type", FibFlag.DADDR)

_FIXED = (
    ip_saddr,
    ip_daddr,
    ip6_saddr,
    ip6_daddr,
    th_sport,
    th_dport,
    l4proto,
    nfproto,
    meta_mark,
    iifname,
    oifname,
    ct_state,
    ct_status,
    ct_mark,
    fib_saddr_type,
    fib_daddr_type,
)
_BY_LOAD: dict[Load, Selector] = {selector.load: selector for selector in _FIXED}
_BY_TYPEOF = {selector.typeof: selector for selector in _FIXED}


def saddr(family: NfFamily) -> Selector:
    """The source address of a packet in an ip or ip6 table."""
    return ip_saddr if family is NfFamily.IP else ip6_saddr


def daddr(family: NfFamily) -> Selector:
    """The destination address of a packet in an ip or ip6 table."""
    return ip_daddr if family is NfFamily.IP else ip6_daddr


def loaded_by(load: Load) -> Selector | None:
    """The selector that an expression loads, whatever its register; None for one without a name here."""
    load = replace(load, target=0)
    if isinstance(load, Numgen):
        selector = numgen_random(load.modulus, load.offset)
        return selector if selector.load == load else None
    return _BY_LOAD.get(load)


def typeof_of(fields: tuple[Field, ...]) -> bytes:
    """What a set's user data says of its key or data; empty where there is nothing to say (a single bare type).

    Raises ValueError if types and selectors are mixed, which nft has no words for.
    """
    selectors = [field for field in fields if isinstance(field, Selector)]
    if not selectors:
        return typeof_record(_EXPR_CONCAT, b"") if len(fields) > 1 else b""
    if len(selectors) < len(fields):
        raise ValueError(f"a key is made of types or of selectors, not of both: {fields}")
    if len(fields) == 1:
        return selectors[0].typeof
    return typeof_record(_EXPR_CONCAT, b"".join(record(i, field.typeof) for i, field in enumerate(selectors)))


def typeof_verdict() -> bytes:
    """What the user data of a verdict map says of its data, if its key is a ``typeof``."""
    return typeof_record(_EXPR_VERDICT, b"")


def selectors_of(typeof: bytes) -> tuple[Selector, ...] | None:
    """The selectors that a set's user data names; None if it names none or one that is not known here."""
    expression, data = _read_typeof(typeof)
    parts = [part for _, part in sorted(records(data).items())] if expression == _EXPR_CONCAT else [typeof]
    selectors = [_by_typeof(part) for part in parts]
    known = tuple(selector for selector in selectors if selector is not None)
    return known if known and len(known) == len(selectors) else None


def _by_typeof(typeof: bytes) -> Selector | None:
    expression, data = _read_typeof(typeof)
    if expression == _EXPR_NUMGEN:
        values = {kind: read_number(value) for kind, value in records(data).items()}
        selector = numgen_random(values.get(1, 0), values.get(2, 0))
        return selector if selector.typeof == typeof else None
    return _BY_TYPEOF.get(typeof)


def _read_typeof(typeof: bytes) -> tuple[int, bytes]:
    found = records(typeof)
    return read_number(found.get(_TYPEOF_EXPR, b"")), found.get(_TYPEOF_DATA, b"")
