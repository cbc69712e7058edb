"""The lab's IPv6 twin of every IPv4 address that a scenario writes.

Scenarios and objects are written with IPv4 addresses; for an IPv6 run each is replaced by its twin, which the table
below gives: the last octet as it is written (10.244.21.10 is fd00:244:0:21::10), a cluster IP's in hexadecimal
(10.96.100.12 is fd00:96::100c).
"""

from __future__ import annotations

import re
from typing import Any

from kpx.net import Family

_HOSTS = (
    ("10.244.21.", "fd00:244:0:21::{}"),
    ("10.244.22.", "fd00:244:0:22::{}"),
    ("10.199.0.", "fd00:199::{}"),
    ("10.199.1.", "fd00:199:1::{}"),
    ("10.96.100.", "fd00:96::10{:02x}"),
    ("10.96.0.", "fd00:96::{:x}"),
    ("192.0.2.", "2001:db8:192::{}"),
    ("198.51.100.", "2001:db8:198::{}"),
    ("203.0.113.", "2001:db8:203::{}"),
)
_NETWORKS = {
    "0.0.0.0/0": "::/0",
    "10.96.0.0/16": "fd00:96::/112",
    "10.199.0.0/24": "fd00:199::/64",
    "10.199.1.0/24": "fd00:199:1::/64",
    "10.244.0.0/16": "fd00:244::/48",
    "10.244.21.0/24": "fd00:244:0:21::/64",
    "10.244.22.0/24": "fd00:244:0:22::/64",
    "127.0.0.0/8": "::1/128",
    "198.51.100.0/25": "2001:db8:198::/121",
    "203.0.113.0/24": "2001:db8:203::/64",
}
_IPV4 = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(/\d+)?(?![\w.])")


def in_family(value: Any, family: Family) -> Any:
    """A piece of YAML as it reads in a run of one family."""
    return in_ipv6(value) if family is Family.IPV6 else value


def in_ipv6(value: Any) -> Any:
    """A piece of YAML with every IPv4 address and network in its texts replaced. Raises ValueError for unknown ones."""
    if isinstance(value, str):
        return _IPV4.sub(_twin, value)
    if isinstance(value, dict):
        return {key: in_ipv6(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [in_ipv6(item) for item in value]
    return value


def _twin(match: re.Match[str]) -> str:
    address, length = match.groups()
    if length and length != "/32":
        if match.group() not in _NETWORKS:
            raise ValueError(f"{match.group()} has no IPv6 twin: add it to tests/packets/addresses.py")
        return _NETWORKS[match.group()]
    suffix = "/128" if length else ""
    if address == "127.0.0.1":
        return f"::1{suffix}"
    for prefix, form in _HOSTS:
        if address.startswith(prefix):
            return form.format(int(address.removeprefix(prefix))) + suffix
    raise ValueError(f"{address} has no IPv6 twin: add it to tests/packets/addresses.py")
