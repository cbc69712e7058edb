"""Removing what service proxies left in the kernel: of every mode, ours and kube-proxy's alike."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from kpx.kernel.dummy import NotADummy
from kpx.kernel.ipset import IpsetUnavailable
from kpx.kernel.iptables.program import Iptables, IptablesError, installed
from kpx.kernel.iptables.tables import parse
from kpx.kernel.ipvs.table import IpvsUnavailable
from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.objects import Table
from kpx.kernel.nft.transaction import Transaction, delete
from kpx.kernel.nft.wire import TableName
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.backend import BackendError
from kpx.proxier.iptables import compare as iptables_mode
from kpx.proxier.iptables.compare import keep_text
from kpx.proxier.iptables.footprint import Footprint, removal
from kpx.proxier.iptables.watched import WatchedTables, named
from kpx.proxier.ipvs import remains
from kpx.proxier.ipvs import rules as ipvs_mode
from kpx.proxier.ipvs.remains import Remains
from kpx.proxier.nftables.settings import NF_FAMILIES, TABLE
from kpx.proxier.observer import Observer, Sync

logger = logging.getLogger(__name__)

_STOCK_TABLE = "kube-proxy"
# What `remove_others` can leave: a variant of iptables, IPVS, or the nftables table of kpx or of kube-proxy.
KEPT = ("iptables-nft", "iptables-legacy", "ipvs", TABLE, _STOCK_TABLE)
_FOOTPRINTS = {"iptables": iptables_mode.FOOTPRINT, "ipvs": ipvs_mode.FOOTPRINT}
# How often it is looked whether connections of a former mode have ended, in seconds.
_DRAIN_SECONDS = 5.0


def cleanup() -> None:
    """Remove the rules of all modes in both families, whatever of them is there.

    But where a table of ours is, only that: our daemon removes the rules of others when it puts its table in, so that
    those beside it are of a proxy that serves the node now. Raises `BackendError` at the end if something could not
    be removed; the rest is removed all the same.
    """
    _raise(failure for family in Family for failure in _clean(family))


def _clean(family: Family) -> Iterator[str]:
    if _tables(family, TABLE):
        yield from _remove_tables(family, TABLE)
        v(1, logger, "%s: only the table %s is removed; rules beside it are another proxy's", family.value, TABLE)
        return
    yield from _remove_tables(family, _STOCK_TABLE)
    yield from _remove_chains(family)
    yield from _remove_virtual_servers(family)


def remove_others(kept: str) -> None:
    """Remove the rules of Services in both families, but for those of `kept`, one of `KEPT`.

    Virtual servers that connections need stay. Raises `BackendError` at the end if something could not be removed.
    """
    _raise(failure for family in Family for failure in _remove_all_but(family, kept))


def _remove_all_but(family: Family, kept: str) -> Iterator[str]:
    for table in (TABLE, _STOCK_TABLE):
        if table != kept:
            yield from _remove_tables(family, table)
    for iptables in _installed(family):
        mode, _, variant = kept.partition("-")
        spared = mode if mode in _FOOTPRINTS and variant in ("", iptables.variant.value) else ""
        yield from _remove_chains_of(iptables, spared, thorough=True)
    if kept != "ipvs" and remains.possible():
        try:
            with Remains(family) as left:
                if needed := left.drain():
                    logger.warning("%s: %d virtual servers are still needed by connections", family.value, needed)
        except (OSError, IpvsUnavailable, IpsetUnavailable, NotADummy) as error:
            yield str(error)


class TakeOver(Observer):
    """Removes the rules of other modes once ours are in, family by family: no connection is left without rules."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._done: set[Family] = set()

    def synced(self, sync: Sync) -> None:
        if sync.ok and sync.family not in self._done:
            self._done.add(sync.family)
            for failure in self._remove_others(sync.family):
                logger.error("rules of another mode stay, and may serve in place of ours: %s", failure)

    def _remove_others(self, family: Family) -> Iterator[str]:
        yield from _remove_tables(family, _STOCK_TABLE)
        if self._mode != "nftables":
            yield from _remove_tables(family, TABLE)
        # Mode ipvs leaves nothing where the kernel does not have it loaded: tables can take seconds to read.
        if self._mode != "iptables" or remains.possible():
            yield from _remove_chains(family, kept=self._mode)
        if self._mode != "ipvs":
            yield from _drain_virtual_servers(family)


def _raise(failures: Iterator[str]) -> None:
    told = list(failures)
    for one in told:
        logger.error("%s", one)
    if told:
        raise BackendError(f"encountered an error while tearing down rules: {'; '.join(told)}")


def _tables(family: Family, name: str) -> list[TableName]:
    """The nftables table of that name, if there is one; none in a kernel without nftables."""
    wanted = TableName(NF_FAMILIES[family], name)
    try:
        with Nft() as nft:
            return [wanted for entry in nft.tables() if entry.table == wanted]
    except (NetlinkError, OSError) as error:
        v(2, logger, "nftables cannot be listed: %s", error)
        return []


def _remove_tables(family: Family, name: str) -> Iterator[str]:
    """Remove a table if it is there; yields what went wrong."""
    for table in _tables(family, name):
        try:
            with Nft() as nft:
                nft.apply(Transaction(table, (delete(Table()),)))
        except NetlinkError as error:
            yield str(error)


def _remove_chains(family: Family, kept: str = "") -> Iterator[str]:
    """Remove the chains of modes iptables and ipvs, but for those of the mode `kept`, of both variants of iptables.

    Yields what went wrong.
    """
    for iptables in _installed(family):
        yield from _remove_chains_of(iptables, kept)


def _installed(family: Family) -> list[Iptables]:
    try:
        return [one for one in installed() if one.family is family]
    except IptablesError as error:
        v(2, logger, "there is nothing to remove iptables rules with: %s", error)
        return []


def _remove_chains_of(iptables: Iptables, kept: str, *, thorough: bool = False) -> Iterator[str]:
    """Remove the chains of all modes but `kept`; unless `thorough`, if a glance sees any. Yields what failed."""
    spared = _FOOTPRINTS.get(kept)
    footprint = Footprint.merged(one for mode, one in _FOOTPRINTS.items() if mode != kept)
    tables = WatchedTables(iptables, lambda *_: False)
    try:
        if spared and not thorough and not _suspected(iptables, footprint, spared):
            return
        if held := tables.remove(removal(tables.read(keep_text), footprint, spared)):
            yield f"chains that rules of others lead to are empty, but still there: {named(held)}"
    except IptablesError as error:
        yield str(error)
    finally:
        tables.close()


def _suspected(iptables: Iptables, footprint: Footprint, spared: Footprint) -> bool:
    """Whether there is anything to remove, by the smallest of the tables: the others can take seconds to read."""
    chains = parse(iptables.save("filter"), lambda _: False).table("filter")
    return any(footprint.owns("filter", one) and not spared.owns("filter", one) for one in chains)


def _remove_virtual_servers(family: Family) -> Iterator[str]:
    """Remove what ipvs mode has besides rules, with the connections that it serves; yields what went wrong."""
    if remains.possible():
        try:
            with Remains(family) as left:
                left.remove()
        except (OSError, IpvsUnavailable, IpsetUnavailable, NotADummy) as error:
            yield str(error)


def _drain_virtual_servers(family: Family) -> Iterator[str]:
    """Remove what of ipvs mode no connection needs now, and the rest in the background; yields what went wrong."""
    if not remains.possible():
        return
    try:
        with Remains(family) as left:
            needed = left.drain()
    except (OSError, IpvsUnavailable, IpsetUnavailable, NotADummy) as error:
        yield str(error)
        return
    if needed:
        logger.info("%s: %d virtual servers stay until their last connections end", family.value, needed)
        threading.Thread(target=_drain, args=(family,), name=f"drain {family.value}", daemon=True).start()


def _drain(family: Family) -> None:
    try:
        with Remains(family) as left:
            while left.drain():
                time.sleep(_DRAIN_SECONDS)
    except (OSError, IpvsUnavailable, IpsetUnavailable, NotADummy) as error:
        logger.error("%s: virtual servers of a former mode stay: %s", family.value, error)
    else:
        logger.info("%s: the last virtual server of a former mode is gone", family.value)
