"""Addresses, networks and families, as every layer writes them: canonical text.

Addresses travel through kpx as canonical strings, not as ``ipaddress`` objects: a node holds 100,000 of them, rules
and ipsets are text, and `packed` turns them into the bytes of a netlink message.
"""

from __future__ import annotations

import ipaddress
import socket
from enum import Enum
from functools import lru_cache


class Family(Enum):
    """An IP family; the value is kube-proxy's ``ip_family`` label."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"

    # Members are part of many keys, and Enum's own is a function of Python that hashes the name.
    __hash__ = object.__hash__

    @property
    def af(self) -> int:
        """The address family number of the socket API and of netlink (``AF_INET``, ``AF_INET6``)."""
        return socket.AF_INET if self is Family.IPV4 else socket.AF_INET6

    @property
    def bits(self) -> int:
        """The length of an address, in bits."""
        return 32 if self is Family.IPV4 else 128

    @property
    def loopback(self) -> str:
        """The loopback network, as kube-proxy's rules write it."""
        return "127.0.0.0/8" if self is Family.IPV4 else "::1/128"


@lru_cache(maxsize=65536)
def canonical_ip(text: str) -> str | None:
    """The canonical text of an address, or None if it is none.

    Lenient as the Kubernetes API was when old objects were stored: an IPv4 octet may have leading zeros and is read
    as decimal. Zone identifiers (``fe80::1%eth0``) are refused; ``::ffff:1.2.3.4`` is the IPv4 address in it.
    """
    for af in (socket.AF_INET, socket.AF_INET6):
        try:
            packed_address = socket.inet_pton(af, text)
        except (OSError, ValueError):
            continue
        if packed_address.startswith(_V4_MAPPED) and len(packed_address) == 16:
            return socket.inet_ntop(socket.AF_INET, packed_address[12:])
        return socket.inet_ntop(af, packed_address)
    octets = text.split(".")
    if len(octets) == 4 and all(octet.isascii() and octet.isdigit() for octet in octets):
        numbers = [int(octet) for octet in octets]
        if max(numbers) <= 255:
            return ".".join(map(str, numbers))
    return None


_V4_MAPPED = bytes(10) + b"\xff\xff"


def family_of(address: str) -> Family:
    """The family of a canonical address or network."""
    return Family.IPV6 if ":" in address else Family.IPV4


def packed(address: str) -> bytes:
    """The 4 or 16 bytes, in network order, of a canonical address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def canonical_network(text: str) -> str | None:
    """The masked, canonical text ``address/length`` of a CIDR, or None if it is none (a bare address is none)."""
    base, slash, length = text.partition("/")
    address = canonical_ip(base)
    if not slash or address is None or not (length.isascii() and length.isdigit()):
        return None
    if int(length) > family_of(address).bits:
        return None
    return str(ipaddress.ip_network(f"{address}/{int(length)}", strict=False))


def contains(network: str, address: str) -> bool:
    """Whether a canonical network holds a canonical address (False across families)."""
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def is_link_local(address: str) -> bool:
    """Whether an address is an IPv6 one of its link alone: every interface has one."""
    return ":" in address and ipaddress.ip_address(address).is_link_local


def is_loopback(address: str) -> bool:
    """Whether a canonical address is a loopback address."""
    return ipaddress.ip_address(address).is_loopback


def join_port(address: str, port: int) -> str:
    """``address:port``, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
