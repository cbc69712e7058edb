"""The order in which ipvsadm prints, so that the texts can be compared line by line.

It subtracts numbers and takes the result as a signed C integer: 192.168.0.1 comes before 10.0.0.1, since they are more
than 2**31 apart. With addresses all around the number space no order comes of it that holds for all pairs, and what is
printed depends on how the C library sorts: by merging halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from kpx.kernel.ipvs.types import PROTOCOLS, RealServer, VirtualServer
from kpx.net import family_of, packed

T = TypeVar("T")


class _Key(NamedTuple):
    """What is compared: numbers, then the address in words of 32 bits (for IPv4 only the first), then the port."""

    numbers: tuple[int, ...]
    words: tuple[int, ...]
    compared_words: int
    port: int


def sorted_virtuals(virtuals: Iterable[VirtualServer]) -> list[VirtualServer]:
    return _sorted(virtuals, _virtual_key)


def sorted_reals(reals: Iterable[RealServer]) -> list[RealServer]:
    return _sorted(reals, lambda one: _key((), one.real.address, one.real.port))


def _virtual_key(one: VirtualServer) -> _Key:
    virtual = one.virtual
    if virtual.mark:
        return _Key((virtual.mark, virtual.family.af, 0), (0,) * 4, 4, 0)
    number = PROTOCOLS.get(virtual.protocol) or int(virtual.protocol)
    return _key((0, virtual.family.af, number), virtual.address, virtual.port)


def _key(numbers: tuple[int, ...], address: str, port: int) -> _Key:
    value = packed(address).ljust(16, b"\0")
    words = tuple(int.from_bytes(value[at : at + 4], "big") for at in range(0, 16, 4))
    return _Key(numbers, words, family_of(address).bits // 32, port)


def _comes_after(first: _Key, second: _Key) -> bool:
    pairs = [
        *zip(first.numbers, second.numbers, strict=True),
        *zip(first.words[: first.compared_words], second.words, strict=False),
        (first.port, second.port),
    ]
    difference = next((one - other for one, other in pairs if one != other), 0)
    return 0 < difference % 2**32 < 2**31


def _sorted(items: Iterable[T], key: Callable[[T], _Key]) -> list[T]:
    return [item for _, item in _merge_sorted([(key(item), item) for item in items])]


def _merge_sorted(items: list[tuple[_Key, T]]) -> list[tuple[_Key, T]]:
    if len(items) < 2:
        return items
    middle = len(items) // 2
    left, right = _merge_sorted(items[:middle]), _merge_sorted(items[middle:])
    merged: list[tuple[_Key, T]] = []
    at = beside = 0
    while at < len(left) and beside < len(right):
        if _comes_after(left[at][0], right[beside][0]):
            merged.append(right[beside])
            beside += 1
        else:
            merged.append(left[at])
            at += 1
    return merged + left[at:] + right[beside:]
