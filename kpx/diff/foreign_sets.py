"""What is in the sets that rules of others refer to, as text like that of rules: addresses, networks and ports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kpx.diff.nft_facts import networks
from kpx.kernel.ipset import Ipsets, IpsetUnavailable
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.datatypes import AddressType
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.sets import Set, SetFlag, unpack
from kpx.kernel.nft.wire import NfFamily, TableName

# Sets of destinations, in nftables and in iptables.
_NAMED = re.compile(r"(?:daddr|dport)[^@]*@(\S+)")
_IPSET = re.compile(r"--match-set (\S+) \S*dst")
_PLAIN_TYPES = ("hash:ip", "hash:ip,port", "hash:ip,port,ip", "bitmap:port")
# Larger sets are not looked into.
_MOST_ELEMENTS = 5000
_PORT = "inet_service"


def contents(table: str, rule: str, nft: Nft) -> list[str] | None:
    """What the sets of destinations in a rule hold; None where that is not known, or too much."""
    found: list[str] = []
    for name in _NAMED.findall(rule):
        held = _of_nftables(table, name, nft)
        if held is None:
            return None
        found += held
    for name in _IPSET.findall(rule):
        held = _of_ipset(name)
        if held is None:
            return None
        found += held
    return found


def _of_nftables(table: str, name: str, nft: Nft) -> list[str] | None:
    family, _, of = table.partition(" ")
    if not of:
        return None
    where = TableName(NfFamily[family.upper()], of)
    declared = nft.declaration(where, name)
    if declared is None or SetFlag.DYNAMIC in declared.flags:
        return None
    elements = nft.elements(where, name)
    if len(elements) > _MOST_ELEMENTS:
        return None
    if SetFlag.INTERVAL in declared.flags:
        alone = len(declared.key) == 1 and isinstance(declared.key[0].type, AddressType)
        return networks(elements) if alone else None
    return list(_texts(declared, elements))


def _texts(declared: Set, elements: Iterable[Element]) -> Iterator[str]:
    for element in elements:
        for field, value in zip(declared.key, unpack(declared.key, element.key), strict=True):
            yield f"dport {value}" if field.type.name == _PORT else value


def _of_ipset(name: str) -> list[str] | None:
    try:
        with Ipsets() as sets:
            header = sets.header(name)
            if header is None or header.type not in _PLAIN_TYPES or header.elements > _MOST_ELEMENTS:
                return None
            entries = sets.entries(name) or set()
    except IpsetUnavailable:
        return None
    return [f"{one.address} {one.second} dport {one.port}" if one.port else one.address for one in entries]
