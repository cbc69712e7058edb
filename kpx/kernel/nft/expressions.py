"""The expressions that rules are made of, as values.

A register is named by its first 4-byte word, 0 to 15 (NFT_REG32_00 ...); `VERDICT` is the verdict register. An
expression that none of these can hold wholly is an `Unknown` with its bytes, so that nothing is lost.

Meanings: ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

VERDICT = -1  # the verdict register, where it is a target


class VerdictCode(IntEnum):
    """``enum nft_verdicts`` and netfilter's own two."""

    DROP = 0
    ACCEPT = 1
    CONTINUE = -1
    BREAK = -2
    JUMP = -3
    GOTO = -4
    RETURN = -5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet; `chain` is where a jump or goto leads."""

    code: VerdictCode
    chain: str = ""

    def __str__(self) -> str:
        return f"{self.code.name.lower()} {self.chain}".rstrip()


@dataclass(frozen=True, slots=True)
class Unknown:
    """An expression kept as it came: its kernel name and the attributes inside it."""

    kind: str
    data: bytes = b""


class PayloadBase(IntEnum):
    LINK = 0
    NETWORK = 1
    TRANSPORT = 2


@dataclass(frozen=True, slots=True)
class Payload:
    """Load `length` bytes of a packet's header."""

    base: int
    offset: int
    length: int
    target: int = 0


class MetaKey(IntEnum):
    MARK = 3
    IIF = 4
    OIF = 5
    IIFNAME = 6
    OIFNAME = 7
    NFTRACE = 12
    NFPROTO = 15
    L4PROTO = 16


@dataclass(frozen=True, slots=True)
class Meta:
    """Load what is known of a packet into `target`, or set it from `source`."""

    key: int
    target: int | None = None
    source: int | None = None


class CtKey(IntEnum):
    STATE = 0
    DIRECTION = 1
    STATUS = 2
    MARK = 3
    PROTO_DST = 12
    DST_IP = 20
    DST_IP6 = 22


@dataclass(frozen=True, slots=True)
class Ct:
    """Load what conntrack knows of a packet's flow into `target`, or set it from `source`."""

    key: int
    target: int | None = None
    source: int | None = None
    direction: int | None = None


class FibResult(IntEnum):
    OIF = 1
    OIFNAME = 2
    ADDRTYPE = 3


class FibFlag(IntEnum):
    SADDR = 1
    DADDR = 2


@dataclass(frozen=True, slots=True)
class Fib:
    """Look the address that `flags` name up in the routing table; `result` says what of the route is loaded."""

    result: int
    flags: int
    target: int = 0


class NumgenType(IntEnum):
    INCREMENTAL = 0
    RANDOM = 1


@dataclass(frozen=True, slots=True)
class Numgen:
    """Load a number from `offset` to `offset` + `modulus` - 1."""

    modulus: int
    type: int = NumgenType.RANDOM
    offset: int = 0
    target: int = 0


class CmpOp(IntEnum):
    EQ = 0
    NE = 1
    LT = 2
    LE = 3
    GT = 4
    GE = 5


@dataclass(frozen=True, slots=True)
class Cmp:
    """Go on only if the register compares so with `value`."""

    op: int
    value: bytes
    source: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """Go on only if the register lies in (EQ) or outside (NE) of `first` to `last`."""

    op: int
    first: bytes
    last: bytes
    source: int = 0


@dataclass(frozen=True, slots=True)
class Bitwise:
    """``target = (source & mask) ^ xor``; `length` is that of mask and xor, in bytes."""

    mask: bytes
    xor: bytes
    length: int
    source: int = 0
    target: int = 0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Look the key in `source` up in a set; with a `target` (a map) load its data. `flags` 1 inverts."""

    set: str
    source: int = 0
    target: int | None = None
    flags: int = 0


class DynsetOp(IntEnum):
    ADD = 0
    UPDATE = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class Dynset:
    """Put the key in `key` into a set; `timeout` in milliseconds, 0 for the set's own."""

    set: str
    op: int = DynsetOp.UPDATE
    key: int = 0
    data: int | None = None
    timeout: int = 0
    expression: Expression | None = None
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Immediate:
    """Load a constant, or give the verdict."""

    data: bytes | Verdict
    target: int = 0


class NatType(IntEnum):
    SNAT = 0
    DNAT = 1


class NatFlag(IntEnum):
    """NF_NAT_RANGE_*."""

    RANDOM = 4
    PERSISTENT = 8
    FULLY_RANDOM = 16


@dataclass(frozen=True, slots=True)
class Nat:
    """Translate to the address in `address` and, if given, the port in `port`."""

    type: int
    family: int
    address: int | None = None
    port: int | None = None
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Translate the source to the address of the interface that the packet leaves by."""

    flags: int = 0


class RejectType(IntEnum):
    ICMP = 0
    TCP_RESET = 1
    ICMPX = 2


@dataclass(frozen=True, slots=True)
class Reject:
    """Drop the packet and tell its sender. `code` is the family's own ICMP code, or nft's (ICMPX)."""

    type: int
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Counter:
    """Packets and bytes that came here."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """Go on only for `rate` packets (`type` 0) or bytes (1) in `unit` seconds; `flags` 1 inverts."""

    rate: int
    unit: int = 1
    burst: int = 5
    type: int = 0
    flags: int = 0


Expression = (
    Payload
    | Meta
    | Ct
    | Fib
    | Numgen
    | Cmp
    | Range
    | Bitwise
    | Lookup
    | Dynset
    | Immediate
    | Nat
    | Masquerade
    | Reject
    | Counter
    | Limit
    | Unknown
)
