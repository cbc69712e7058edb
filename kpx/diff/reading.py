"""Reads the rules of Services that the kernel holds: one state of them, in whichever mode and by whichever program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from kpx.diff import ipvs, nftables, stock_nftables
from kpx.diff.iptables import IptablesLayout
from kpx.diff.layout import Layout
from kpx.kernel.iptables.program import Iptables, IptablesError, Variant, with_table
from kpx.kernel.iptables.tables import Tables, parse
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.wire import TableName
from kpx.net import Family
from kpx.proxier.nftables.settings import NF_FAMILIES, Settings
from kpx.proxier.node import LocalTraffic

Pods = Callable[[Family], LocalTraffic | None]


def layouts(nft: Nft, mode: str, pods: Pods, *, own: bool) -> list[Layout]:
    """The rules of every family, in a mode, or in those that there are where `mode` is empty.

    `pods` tells what the configuration says of pods, and `own` that the proxy is kpx. Raises `GenerationChanged`,
    `OSError`.
    """
    return list(_layouts(nft, mode, pods, own=own))


def _layouts(nft: Nft, mode: str, pods: Pods, *, own: bool) -> Iterator[Layout]:
    if mode in ("", "nftables"):
        yield from _of_nftables(nft, pods)
    if mode in ("", "ipvs") and (virtual := list(ipvs.read(pods, lambda family: _tables(family)[1]))):
        yield from virtual
        return
    for family in Family if mode in ("", "iptables") else ():
        variant, tables = _tables(family)
        if variant:
            yield IptablesLayout(family, variant, tables, pods(family), own)


def _of_nftables(nft: Nft, pods: Pods) -> Iterator[Layout]:
    there = {entry.table for entry in nft.tables()}
    for family, nf_family in NF_FAMILIES.items():
        if Settings(family).table in there:
            yield nftables.read(nft, family, pods(family))
        elif TableName(nf_family, stock_nftables.TABLE) in there:
            yield stock_nftables.read(nft, family, pods(family))


def _tables(family: Family) -> tuple[Variant | None, Tables]:
    """The tables of the variant that has chains of a service proxy; of both, those with more. None where none has."""
    read = {programs.variant: _read(programs) for programs in with_table(family, "nat")}
    chains = {variant: sum(one.startswith("KUBE-") for one in read[variant].table("nat")) for variant in read}
    best = max(chains, key=lambda one: chains[one], default=None)
    return (best, read[best]) if best and chains[best] else (None, Tables())


def _read(programs: Iptables) -> Tables:
    """All tables; none where the kernel lacks the interface of the programs."""
    with suppress(IptablesError):
        return parse(programs.save(), lambda _: True)
    return Tables()
