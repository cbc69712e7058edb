"""Reads what `Facts` holds from this node: the kernel, its processes and the proxy that answers. Changes nothing."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator

import psutil

from kpx.config.types import Conntrack
from kpx.kernel import modules, nfacct, sysctl
from kpx.kernel.ipset import IpsetUnavailable
from kpx.kernel.iptables.program import Iptables, IptablesError, Variant, find, installed
from kpx.kernel.iptables.tables import parse
from kpx.kernel.ipvs.table import IpvsUnavailable
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.errors import MissingFeature
from kpx.kernel.nft.probe import check_features
from kpx.kernel.sysctl import SysctlError
from kpx.migrate.facts import CONNTRACK_LIMIT, FORWARDING, Facts, Holding, Listener
from kpx.migrate.others import others
from kpx.net import Family
from kpx.proxier import sysctls
from kpx.proxier.iptables import names
from kpx.proxier.iptables.settings import LOCALHOST_ACCEPTED
from kpx.proxier.ipvs import remains
from kpx.proxier.ipvs.names import FILTER, NODE_PORT
from kpx.proxier.ipvs.remains import Remains
from kpx.proxier.ipvs.requirements import required_modules
from kpx.proxier.nftables.settings import NF_FAMILIES, TABLE
from kpx.proxier.rival import rivals
from kpx.tools import stock
from kpx.tools.errors import ToolError

HEALTH_PORT, METRICS_PORT = 10256, stock.PORT
SETTINGS = (FORWARDING, CONNTRACK_LIMIT)
_STOCK_TABLE = "kube-proxy"
_OF_IPTABLES, _OF_IPVS = {names.EXTERNAL_SERVICES, names.CANARY}, {FILTER, NODE_PORT}
_FORWARD_DROPS = re.compile(r":FORWARD DROP ")


def read(scheduler: str) -> Facts:
    """Read this node, for a move to mode ipvs with this scheduler. Raises `ToolError` without the right to."""
    lacks = dict(_lacks())
    answering = stock.configuration()
    tables = dict(_tables())
    holdings = (*_nftables(), *(holding for held, _ in tables.values() for holding in held), *_virtual_servers())
    held_modes = {one.mode for one in holdings}
    programs, fault = _programs()
    return Facts(
        kernel=os.uname().release,
        mode=answering.mode if answering else (held_modes.pop() if len(held_modes) == 1 else ""),
        proxies=tuple(rivals()),
        holdings=holdings,
        others=others((name for _, name in socket.if_nameindex()), _processes()),
        listeners=tuple(_listeners()),
        lacks=lacks,
        modules={name: modules.loadable(name) for name in required_modules(scheduler)},
        iptables=programs,
        iptables_fault=fault,
        settings={name: _setting(name) for name in SETTINGS},
        conntrack_limit=sysctls.conntrack_limit(Conntrack(), sysctls.host_cores()),
        forward_drops=tuple(program for program, (_, drops) in tables.items() if drops),
        localhost_packets=_packets(LOCALHOST_ACCEPTED),
        scheduler=scheduler,
    )


def _nftables() -> Iterator[Holding]:
    try:
        with Nft() as nft:
            found = {entry.table for entry in nft.tables()}
    except OSError:
        return
    for family in NF_FAMILIES.values():
        for name in (_STOCK_TABLE, TABLE):
            if any(one.family is family and one.name == name for one in found):
                yield Holding("nftables", f"the table {family.name.lower()} {name}")


def _tables() -> Iterator[tuple[str, tuple[list[Holding], bool]]]:
    """For each program of iptables that has rules: what they hold of modes, and whether FORWARD drops by default."""
    try:
        programs = installed()
    except IptablesError:
        return
    for iptables in programs:
        try:
            lines = list(iptables.save())
        except IptablesError:
            continue
        yield iptables.program(), (list(_chains(iptables, lines)), any(map(_FORWARD_DROPS.match, lines)))


def _chains(iptables: Iptables, lines: list[str]) -> Iterator[Holding]:
    found = parse(lines, lambda _: False).tables
    known = {chain for table in found.values() for chain in table}
    services = [chain for chain in known if names.is_service_chain(chain)]
    rules = sum(one.count for table in found.values() for chain, one in table.items() if chain.startswith("KUBE-"))
    what = f"{rules} rules in chains KUBE-... of {iptables.program()}"
    if known & _OF_IPVS:
        yield Holding("ipvs", what, iptables.variant.value)
    if services or (known & _OF_IPTABLES):
        yield Holding("iptables", what, iptables.variant.value)


def _virtual_servers() -> Iterator[Holding]:
    if not remains.possible():
        return
    for family in Family:
        try:
            with Remains(family) as left:
                if virtuals := left.virtuals():
                    yield Holding("ipvs", f"{len(virtuals)} virtual servers of {family.value}")
        except (OSError, IpvsUnavailable, IpsetUnavailable):
            continue


def _programs() -> tuple[str, str]:
    """The programs that mode iptables would use, with their version, or why it could not."""
    try:
        found = find(Family.IPV4)
        # To ask a legacy program whether it can is to bring its tables into being.
        if found.variant is Variant.NFT and not found.supported():
            return "", f"{found.program()} cannot list NAT rules: the kernel lacks nf_tables NAT"
        return f"{found.program()} {'.'.join(map(str, found.version))}", ""
    except IptablesError as error:
        return "", str(error)


def _lacks() -> Iterator[tuple[str, str]]:
    for family, nf_family in NF_FAMILIES.items():
        try:
            with Nft() as nft:
                check_features(nft, nf_family)
        except (MissingFeature, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPERM:
                raise ToolError("reading the node's rules needs root (CAP_NET_ADMIN): run it with sudo") from error
            yield family.value, str(error)


def _processes() -> Iterator[str]:
    return (process.info["name"] or "" for process in psutil.process_iter(["name"]))


def _listeners() -> Iterator[Listener]:
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port in (HEALTH_PORT, METRICS_PORT):
            yield Listener(one.laddr.port, *_owner(one.pid))


def _owner(process: int | None) -> tuple[str, int]:
    try:
        return (psutil.Process(process).name(), process) if process else ("", 0)
    except psutil.NoSuchProcess:
        return "", 0


def _setting(name: str) -> int | None:
    try:
        return sysctl.read_int(name)
    except SysctlError:
        return None


def _packets(accounting_object: str) -> int | None:
    try:
        return nfacct.packets(accounting_object)
    except (nfacct.AccountingUnsupported, OSError):
        return None
