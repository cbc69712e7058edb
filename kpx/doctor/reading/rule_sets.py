"""Whose rules of Services the kernel holds, and how many: also those that a former mode has left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kpx.doctor.facts import RuleSet
from kpx.kernel.ipset import IpsetUnavailable
from kpx.kernel.iptables.program import Iptables, IptablesError, Variant, find, installed
from kpx.kernel.ipvs.table import IpvsUnavailable, loaded
from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.proxier.iptables.names import is_proxys, is_service_chain
from kpx.proxier.ipvs.remains import Remains, possible

_NF_FAMILIES = {Family.IPV4: NfFamily.IP, Family.IPV6: NfFamily.IP6}
_TABLES = ("kpx", "kube-proxy")
# The elements of these belong to single Services.
_MAPS = ("service-ips", "node-ports", "service-nodeports", "no-endpoint-services", "no-endpoint-node-ports")
_CHAIN = re.compile(r"(?:^-A|-[jg]) (\S+)")
_REFUSAL = ("has no endpoints", "has no local endpoints")


def read() -> tuple[RuleSet, ...]:
    """All that serves, or refuses, single Services. Tables of the legacy interface are not brought into being."""
    return (*_iptables(), *_nftables(), *_ipvs())


def iptables_kind() -> str:
    """The variant that a proxy of mode iptables uses here."""
    return f"iptables-{find(Family.IPV4).variant.value}"


def _iptables() -> Iterator[RuleSet]:
    for programs in installed():
        yield _counted(programs)


def _counted(programs: Iptables) -> RuleSet:
    served, rules, own = 0, 0, 0
    try:
        for line in _lines(programs):
            if line.startswith(":"):
                served += is_service_chain(line[1:].split(" ")[0])
            elif line.startswith("-A"):
                rules += 1
                own += any(is_proxys(name) for name in _CHAIN.findall(line))
                served += line.startswith("-A KUBE-") and any(words in line for words in _REFUSAL)
    except IptablesError:
        # A table that was made with nft itself cannot be printed: what came before it counts.
        pass
    kind = "iptables-legacy" if programs.variant is Variant.LEGACY else "iptables-nft"
    return RuleSet(kind, programs.family, served, rules, own)


def _lines(programs: Iptables) -> Iterable[str]:
    return programs.save()


def _nftables() -> Iterator[RuleSet]:
    try:
        with Nft() as nft:
            there = {entry.table for entry in nft.tables()}
            for family, nf_family in _NF_FAMILIES.items():
                for name in _TABLES:
                    if (table := TableName(nf_family, name)) in there:
                        yield _table(nft, family, table)
    except (NetlinkError, OSError):  # a kernel without nf_tables
        return


def _table(nft: Nft, family: Family, table: TableName) -> RuleSet:
    sets = {entry.value.name for entry in nft.sets(table)}
    elements = sum(len(nft.elements(table, name)) for name in _MAPS if name in sets)
    rules = len(nft.rules(table))
    return RuleSet(table.name, family, elements, rules, rules)


def _ipvs() -> Iterator[RuleSet]:
    """Those that the sets of a service proxy name: others, such as keepalived, have virtual servers too."""
    if not loaded() or not possible():
        return
    for family in Family:
        try:
            with Remains(family) as remains:
                count = len(remains.virtuals())
        except (IpvsUnavailable, IpsetUnavailable):
            return
        yield RuleSet("ipvs", family, count, count, count)
