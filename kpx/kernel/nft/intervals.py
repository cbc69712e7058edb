"""Ranges in sets: networks as the elements of an interval set, and as a range of concatenated keys.

The kernel refuses intervals that overlap (EEXIST), so networks are merged first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from kpx.kernel.nft.datatypes import AddressType
from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.selectors import Field
from kpx.kernel.nft.sets import pack

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
