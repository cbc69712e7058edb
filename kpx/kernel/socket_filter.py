"""Classic BPF programs for netlink sockets: of what the kernel announces, only what passes reaches the socket's buffer.

Layouts: ``linux/filter.h``.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_LOAD = {4: 0x20, 2: 0x28, 1: 0x30}  # BPF_LD | BPF_ABS, by the number of bytes
_JUMP_EQUAL, _RETURN = 0x15, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_PASS, _REFUSE = 0xFFFFFFFF, 0
_TYPE, _PORT = 4, 12  # in struct nlmsghdr


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether the bytes at an offset of a message have a value; `negated`, whether they have another."""

    offset: int
    value: bytes
    negated: bool = False

    def instructions(self, failed: int) -> list[bytes]:
        """Falls through where it holds; `failed` is how many instructions after it the next alternative begins."""
        words = _words(self.offset, self.value)
        found = []
        for at, (offset, value) in enumerate(words):
            left = 2 * (len(words) - at) - 2
            skip = left + failed
            equal, differs = (skip if not left else 0, left) if self.negated else (0, skip)
            found.append(_INSTRUCTION.pack(_LOAD[len(value)], 0, 0, offset))
            found.append(_INSTRUCTION.pack(_JUMP_EQUAL, equal, differs, int.from_bytes(value, "big")))
        return found


def of_type(kind: int) -> Condition:
    """Whether a message is of a type."""
    return Condition(_TYPE, _own_order(kind, 2))


def not_from(port: int) -> Condition:
    """Whether another than a netlink port caused a message."""
    return Condition(_PORT, _own_order(port, 4), negated=True)


def _own_order(value: int, length: Literal[2, 4]) -> bytes:
    """The header is in the machine's order, while loads are big-endian."""
    return value.to_bytes(length, sys.byteorder)


def any_of(*alternatives: Sequence[Condition]) -> bytes:
    """A program that lets a message pass if all conditions of one of the alternatives hold."""
    program: list[bytes] = []
    for conditions in alternatives:
        found: list[bytes] = [_INSTRUCTION.pack(_RETURN, 0, 0, _PASS)]
        for condition in reversed(conditions):
            found = [*condition.instructions(len(found)), *found]
        program += found
    return b"".join([*program, _INSTRUCTION.pack(_RETURN, 0, 0, _REFUSE)])


def _words(offset: int, value: bytes) -> list[tuple[int, bytes]]:
    """What one load each takes: 4, 2 or 1 bytes."""
    words = []
    while value:
        size = next(size for size in _LOAD if size <= len(value))
        words.append((offset, value[:size]))
        offset, value = offset + size, value[size:]
    return words
