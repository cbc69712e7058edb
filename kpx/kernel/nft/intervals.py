"""Ranges in sets: networks as the elements of an interval set, and as a range of concatenated keys.

The kernel refuses intervals that overlap (EEXIST), so networks are merged first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from kpx.kernel.nft.datatypes import AddressType
from kpx.kernel.nft.elements import CATCH_ALL, INTERVAL_END, Element
from kpx.kernel.nft.selectors import Field
from kpx.kernel.nft.sets import Set, SetFlag, pack

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def merged(networks: Iterable[str]) -> list[tuple[Address, Address]]:
    """The first and last address of each range that networks of one family cover together, in order."""
    ranges: list[tuple[Address, Address]] = []
    covered = (ipaddress.ip_network(network) for network in networks)
    for first, last in sorted(((network[0], network[-1]) for network in covered), key=lambda ends: int(ends[0])):
        if ranges and int(first) <= int(ranges[-1][1]) + 1:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], last, key=int)
        else:
            ranges.append((first, last))
    return ranges


def interval_elements(networks: Iterable[str], comment: str = "") -> list[Element]:
    """The elements of an interval set keyed by one address: the begin of each range, and what comes after its end."""
    elements = []
    for first, last in merged(networks):
        elements.append(Element(first.packed, comment=comment))
        if int(last) + 1 < 1 << last.max_prefixlen:
            elements.append(Element((last + 1).packed, flags=INTERVAL_END))
    return elements


def pack_range(fields: Sequence[Field], values: Sequence[str | int]) -> tuple[bytes, bytes]:
    """A key and its `Element.key_end` in a concatenation with intervals; any address may be a network."""
    ends = [
        _ends(str(value)) if isinstance(field.type, AddressType) and "/" in str(value) else (value, value)
        for field, value in zip(fields, values, strict=True)
    ]
    return pack(fields, [first for first, _ in ends]), pack(fields, [last for _, last in ends])


def _ends(network: str) -> tuple[str, str]:
    addresses = ipaddress.ip_network(network)
    return str(addresses[0]), str(addresses[-1])


def found(declared: Set, elements: Mapping[bytes, Element], key: bytes) -> Element | None:
    """The element of a set that a key finds; in one of intervals, the begin of that which holds the key.

    `elements` are by their keys; of ranges in a concatenation, too.
    """
    if SetFlag.INTERVAL not in declared.flags:
        one = elements.get(key)
    elif len(declared.key) > 1:
        one = next((each for each in elements.values() if _holds(declared.key, each, key)), None)
    else:
        before = [each for each in elements if len(each) == len(key) and each <= key]
        begin = elements[max(before)] if before else None
        one = begin if begin and not begin.flags & INTERVAL_END else None
    return one or next((each for each in elements.values() if each.flags & CATCH_ALL), None)


def _holds(fields: Sequence[Field], element: Element, key: bytes) -> bool:
    """Whether each field of a key is within the range of that field."""
    last, at = element.key_end or element.key, 0
    for field in fields:
        end = at + field.type.length
        if not element.key[at:end] <= key[at:end] <= last[at:end]:
            return False
        at += field.words * 4
    return True
