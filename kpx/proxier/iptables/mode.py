"""Mode iptables on this node."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from kpx.kernel import nfacct
from kpx.kernel.iptables.program import Iptables, IptablesError, find
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.backend import Backend
from kpx.proxier.iptables.backend import IptablesBackend
from kpx.proxier.iptables.settings import INVALID_DROPPED, LOCALHOST_ACCEPTED, Settings
from kpx.proxier.nodeports import NodePortAddresses
from kpx.proxier.site import ModeUnavailable, Site, matching_addresses
from kpx.proxier.sysctls import conntrack_is_liberal, enable_route_localnet

logger = logging.getLogger(__name__)


class IptablesMode:
    """Mode iptables: both families use the variant that the node's other rules were made with."""

    def __init__(self, programs: Iptables | None = None) -> None:
        """`programs` are of the variant to use; it is found out where they are not given."""
        try:
            found = programs or find(Family.IPV4)
            version = ".".join(map(str, found.version))
        except IptablesError as error:
            raise ModeUnavailable(f"iptables is not available on this host: {error}") from error
        self._programs = {family: replace(found, family=family) for family in Family}
        v(1, logger, "using %s, version %s", found.program(), version)

    def programs(self, family: Family) -> Iptables:
        """The programs of one family."""
        return self._programs[family]

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
        else matching_addresses(settings.family, node_ports, loopback=settings.localhost_node_ports),
        counters=frozenset(_counters(settings)),
    )


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
