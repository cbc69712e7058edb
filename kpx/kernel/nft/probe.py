"""Whether the kernel can do what a service dataplane needs of nftables.

Each feature is a small transaction that the kernel checks and does not do, so nothing of it is ever to be seen.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft import rules
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.datatypes import inet_proto, inet_service, verdict
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.errors import MissingFeature
from kpx.kernel.nft.intervals import pack_range
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Table
from kpx.kernel.nft.rules import rule
from kpx.kernel.nft.selectors import (
    Selector,
    ct_state,
    ct_status,
    daddr,
    fib_daddr_type,
    l4proto,
    numgen_random,
    saddr,
    th_dport,
)
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.kernel.nft.transaction import Elements, Operation, Transaction, add
from kpx.kernel.nft.wire import NfFamily, TableName

_TABLE = "kpx-probe"
_NAT = Chain("nat", Hook("nat", HookPoint.PREROUTING, -99))
_SNAT = Chain("snat", Hook("nat", HookPoint.POSTROUTING, 101))
_FILTER = Chain("filter", Hook("filter", HookPoint.FORWARD, 0))


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that a kernel may lack: its name, the build option that brings it, and what needs it."""

    name: str
    option: str
    operations: tuple[Operation, ...]


def features(family: NfFamily) -> tuple[Feature, ...]:
    """What a service dataplane needs in an ip or ip6 table."""
    source, destination = saddr(family), daddr(family)
    key: tuple[Selector, ...] = (destination, l4proto, th_dport)
    address = destination.type
    services = Set("services", key, (verdict,))
    backends = Set("backends", (*key, numgen_random(2)), (destination, th_dport), counter=True)
    ranges = Set("ranges", (address, inet_proto, inet_service, address), flags=SetFlag.INTERVAL)
    clients = Set("clients", (address,), flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT, timeout=1000, size=16)
    network = "10.0.0.0/8" if family is NfFamily.IP else "fd00::/8"
    host = "10.0.0.1" if family is NfFamily.IP else "fd00::1"
    first, last = pack_range(ranges.key, (host, "tcp", 80, network))
    return (
        Feature("nftables", "CONFIG_NF_TABLES_IPV4 and _IPV6", ()),
        Feature("base chains that translate addresses", "CONFIG_NFT_NAT", (add(_NAT), add(_SNAT))),
        Feature("maps of concatenated keys", "CONFIG_NF_TABLES", (add(services),)),
        Feature("a counter in each element of a map", "CONFIG_NF_TABLES (Linux 5.7)", (add(backends),)),
        Feature(
            "ranges in concatenated keys",
            "CONFIG_NF_TABLES (Linux 5.6)",
            (add(ranges), add(Elements(ranges, (Element(first, key_end=last),)))),
        ),
        Feature(
            "sets that rules write to",
            "CONFIG_NF_TABLES",
            (add(clients), add(_FILTER), add(rule("filter", source, rules.update("clients")))),
        ),
        Feature(
            "numgen and dnat",
            "CONFIG_NFT_NUMGEN, CONFIG_NFT_NAT",
            (
                add(_NAT),
                add(backends),
                add(rule("nat", *key, numgen_random(2), rules.map_to("backends"), rules.dnat(family))),
            ),
        ),
        Feature("masquerade", "CONFIG_NFT_MASQ", (add(_SNAT), add(rule("snat", rules.masquerade())))),
        Feature(
            "ct state and ct status",
            "CONFIG_NFT_CT",
            (add(_FILTER), add(rule("filter", ct_state, rules.has("new"), ct_status, rules.has("dnat"), rules.accept))),
        ),
        Feature(
            "fib", "CONFIG_NFT_FIB", (add(_NAT), add(rule("nat", fib_daddr_type, rules.eq("local"), rules.accept)))
        ),
        Feature("reject", "CONFIG_NFT_REJECT", (add(_FILTER), add(rule("filter", rules.reject(family))))),
    )


def check_features(nft: Nft, family: NfFamily, wanted: Sequence[Feature] | None = None) -> None:
    """Raise `MissingFeature` for the first feature that the kernel lacks; `NetlinkError` (EPERM) without the right."""
    wanted = features(family) if wanted is None else wanted
    everything = [operation for feature in wanted for operation in feature.operations]
    try:
        _check(nft, family, everything)
    except NetlinkError as refused:
        if refused.errno == errno.EPERM:
            raise
        for feature in wanted:
            _check_one(nft, family, feature)
        raise MissingFeature(f"the kernel refuses what nftables is used for: {refused.strerror}") from refused


def _check_one(nft: Nft, family: NfFamily, feature: Feature) -> None:
    try:
        _check(nft, family, feature.operations)
    except NetlinkError as error:
        lacks = f"the kernel lacks {feature.name} in family {family.nft_name} ({feature.option})"
        raise MissingFeature(f"{lacks}: {error.strerror}") from error


def _check(nft: Nft, family: NfFamily, operations: Sequence[Operation]) -> None:
    nft.check(Transaction(TableName(family, _TABLE), (add(Table()), *operations)))
