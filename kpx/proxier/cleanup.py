"""Removing what service proxies left in the kernel: of every mode, ours and kube-proxy's alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from kpx.kernel.iptables.program import Iptables, IptablesError, installed
from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.objects import Table
from kpx.kernel.nft.transaction import Transaction, delete
from kpx.kernel.nft.wire import TableName
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.backend import BackendError
from kpx.proxier.iptables.backend import IptablesBackend
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.nftables.settings import NF_FAMILIES, TABLE
from kpx.proxier.observer import Observer, Sync

logger = logging.getLogger(__name__)

_STOCK_TABLE = "kube-proxy"


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
        if self._mode == "nftables":
            yield from _remove_chains(family)
        else:
            yield from _remove_tables(family, TABLE)


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


def _remove_chains(family: Family) -> Iterator[str]:
    """Remove the chains of iptables mode, of both variants; yields what went wrong."""
    try:
        programs = installed()
    except IptablesError as error:
        v(2, logger, "there is nothing to remove iptables rules with: %s", error)
        return
    for iptables in programs:
        if iptables.family is family:
            yield from _remove_chains_of(iptables)


def _remove_chains_of(iptables: Iptables) -> Iterator[str]:
    backend = IptablesBackend(iptables, Settings(iptables.family))
    try:
        backend.cleanup()
    except BackendError as error:
        yield str(error)
    finally:
        backend.close()
