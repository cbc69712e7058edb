"""The proxy modes: whether this node can run one, and the backend of one family in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kpx.config.types import KubeProxyConfiguration
from kpx.kernel import links, nfacct
from kpx.kernel.iptables.program import Iptables, IptablesError, find
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.errors import MissingFeature
from kpx.kernel.nft.probe import check_features
from kpx.logs import v
from kpx.net import Family, is_loopback
from kpx.proxier.backend import Backend
from kpx.proxier.iptables.backend import IptablesBackend
from kpx.proxier.iptables.settings import INVALID_DROPPED, LOCALHOST_ACCEPTED, Settings
from kpx.proxier.nftables import settings as nftables
from kpx.proxier.nftables.backend import NftablesBackend
from kpx.proxier.nftables.settings import NF_FAMILIES
from kpx.proxier.node import LocalTraffic
from kpx.proxier.nodeports import NodePortAddresses
from kpx.proxier.sysctls import conntrack_is_liberal, enable_route_localnet

logger = logging.getLogger(__name__)


class ModeUnavailable(Exception):
    """This node cannot run a mode; the text says why, and the remedy."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a backend needs to know of the node and the configuration, for one family."""

    family: Family
    config: KubeProxyConfiguration
    node_ip: str
    local_traffic: LocalTraffic | None
    node_ports: NodePortAddresses


class IptablesMode:
    """Mode iptables: both families use the variant that the node's other rules were made with."""

    def __init__(self, programs: Iptables | None = None) -> None:
        """`programs` are of the variant to use; it is found out where they are not given."""
        try:
            found = programs or find(Family.IPV4)
        except IptablesError as error:
            raise ModeUnavailable(f"iptables is not available on this host: {error}") from error
        self._programs = {family: replace(found, family=family) for family in Family}
        v(1, logger, "using %s, version %s", found.program(), ".".join(map(str, found.version)))

    def families(self) -> list[Family]:
        """The families in which the node can do NAT. Raises `ModeUnavailable` if there is none."""
        supported = [family for family, iptables in self._programs.items() if iptables.supported()]
        if not supported:
            raise ModeUnavailable(
                "iptables is not available on this host: NAT rules cannot be listed in either family; "
                "run kpx as root, on a kernel with nf_tables or ip_tables NAT"
            )
        return supported

    def prepare(self, site: Site) -> None:
        """Set what only a privileged process can: done once, at the start."""
        if _localhost(site):
            enable_route_localnet()

    def backend(self, site: Site) -> Backend:
        """The backend of one family."""
        settings = Settings(
            family=site.family,
            local_traffic=site.local_traffic,
            node_ip=site.node_ip,
            mark=1 << site.config.masquerade_bit,
            localhost_node_ports=_localhost(site),
            drop_invalid=not conntrack_is_liberal(),
            random_fully=self._programs[site.family].version >= (1, 6, 2),
        )
        return IptablesBackend(self._programs[site.family], settings, lambda known: _renewed(known, site.node_ports))


def _localhost(site: Site) -> bool:
    wanted = site.config.iptables.localhost_node_ports and site.node_ports.contains_loopback
    return site.family is Family.IPV4 and wanted


def _renewed(settings: Settings, node_ports: NodePortAddresses) -> Settings:
    """The settings with what may have changed on the node since the last full sync."""
    return replace(
        settings,
        node_ports=None
        if node_ports.match_all
        else _matching(settings.family, node_ports, loopback=settings.localhost_node_ports),
        counters=frozenset(_counters(settings)),
    )


def _matching(family: Family, node_ports: NodePortAddresses, *, loopback: bool) -> tuple[str, ...]:
    """The node's addresses that node ports answer on, with those of loopback or without."""
    matching = node_ports.matching(one.address for one in links.addresses(family))
    kept = [address for address in matching if loopback or not is_loopback(address)]
    for address in sorted(set(matching) - set(kept)):
        logger.error("node ports do not answer on the loopback address %s", address)
    return tuple(kept)


def _counters(settings: Settings) -> Iterable[str]:
    wanted = [INVALID_DROPPED] if settings.drop_invalid else []
    if settings.localhost_node_ports:
        wanted.append(LOCALHOST_ACCEPTED)
    for name in wanted:
        try:
            nfacct.ensure(name)
        except (nfacct.AccountingUnsupported, OSError) as error:
            v(2, logger, "packets are not counted as %s: %s", name, error)
        else:
            yield name


class NftablesMode:
    """Mode nftables: both families over one connection, so that each knows the other's changes for our own."""

    def __init__(self, connect: Callable[[], Nft] = Nft) -> None:
        self._connect = connect

    @cached_property
    def _nft(self) -> Nft:
        return self._connect()  # closed by the backends

    def families(self) -> list[Family]:
        """The families that the kernel has all it takes for. Raises `ModeUnavailable` if there is none."""
        lacks = {family: _lack(family) for family in Family}
        supported = [family for family, lack in lacks.items() if not lack]
        if not supported:
            raise ModeUnavailable(f"nftables is not available on this host: {lacks[Family.IPV4]}; use mode iptables")
        for lack in filter(None, lacks.values()):
            v(1, logger, "%s", lack)
        return supported

    def prepare(self, site: Site) -> None:
        """Nothing besides the table is set in this mode."""

    def backend(self, site: Site) -> Backend:
        """The backend of one family."""
        settings = nftables.Settings(
            family=site.family,
            local_traffic=site.local_traffic,
            node_ip=site.node_ip,
            mark=1 << site.config.masquerade_bit,
        )
        return NftablesBackend(self._nft, settings, lambda known: _answering(known, site.node_ports))


def _lack(family: Family) -> str:
    """What the kernel lacks for mode nftables in a family; empty for nothing."""
    try:
        with Nft() as nft:
            check_features(nft, NF_FAMILIES[family])
    except (MissingFeature, OSError) as error:
        return str(error)
    return ""


def _answering(settings: nftables.Settings, node_ports: NodePortAddresses) -> nftables.Settings:
    """The settings with the addresses that node ports answer on now."""
    if node_ports.match_all:
        return replace(settings, node_ports=None)
    return replace(settings, node_ports=_matching(settings.family, node_ports, loopback=False))


Mode = IptablesMode | NftablesMode
_MODES: dict[str, Callable[[], Mode]] = {"": IptablesMode, "iptables": IptablesMode, "nftables": NftablesMode}


def mode_named(name: str) -> Mode:
    """The mode of a configuration. Raises `ModeUnavailable`."""
    if name not in _MODES:
        raise ModeUnavailable(f"mode {name} is not available in this version of kpx: use mode iptables or nftables")
    return _MODES[name]()


_DISABLED = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")


def host_has_ipv6() -> bool:
    """Whether the host has IPv6 at all."""
    return Path("/proc/net/if_inet6").exists() and not (_DISABLED.exists() and _DISABLED.read_text().strip() == "1")
