"""Mode nftables on this node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.errors import MissingFeature
from kpx.kernel.nft.probe import check_features
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.backend import Backend
from kpx.proxier.nftables.backend import NftablesBackend
from kpx.proxier.nftables.settings import NF_FAMILIES, Settings
from kpx.proxier.nodeports import NodePortAddresses
from kpx.proxier.site import ModeUnavailable, Site, matching_addresses

logger = logging.getLogger(__name__)


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
        settings = Settings(
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


def _answering(settings: Settings, node_ports: NodePortAddresses) -> Settings:
    """The settings with the addresses that node ports answer on now."""
    if node_ports.match_all:
        return replace(settings, node_ports=None)
    return replace(settings, node_ports=matching_addresses(settings.family, node_ports, loopback=False))
