"""Mode ipvs on this node."""

from __future__ import annotations

from dataclasses import replace

from kpx.kernel import links
from kpx.kernel.iptables.program import Iptables
from kpx.net import Family, canonical_network, family_of, is_link_local, is_loopback
from kpx.proxier.backend import Backend
from kpx.proxier.iptables.mode import IptablesMode
from kpx.proxier.ipvs import requirements
from kpx.proxier.ipvs.backend import IpvsBackend
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.ipvs.settings import DEFAULT_SCHEDULER, Settings
from kpx.proxier.nodeports import NodePortAddresses
from kpx.proxier.site import ModeUnavailable, Site


class IpvsMode:
    """Mode ipvs: the kernel's virtual servers, and some rules of the iptables variant that the node uses."""

    def __init__(self, scheduler: str = "", programs: Iptables | None = None) -> None:
        """Raises `ModeUnavailable`."""
        self._scheduler = scheduler or DEFAULT_SCHEDULER
        self._iptables = IptablesMode(programs)

    def families(self) -> list[Family]:
        """The families that iptables serves, if the kernel has IPVS and the scheduler. Raises `ModeUnavailable`."""
        try:
            requirements.check(self._scheduler)
        except (requirements.Missing, OSError) as error:
            raise ModeUnavailable(f"can't use the IPVS proxier: {error}; or use mode nftables") from error
        return self._iptables.families()

    def prepare(self, site: Site) -> None:
        """Write the kernel settings of this mode. Raises `SysctlError`."""
        requirements.prepare(site.config.ipvs)

    def backend(self, site: Site) -> Backend:
        """The backend of one family."""
        programs = self._iptables.programs(site.family)
        settings = Settings(
            family=site.family,
            scheduler=self._scheduler,
            local_traffic=site.local_traffic,
            masquerade_all=site.config.masquerade_all,
            node_ip=site.node_ip,
            mark=1 << site.config.masquerade_bit,
            random_fully=programs.version >= (1, 6, 2),
            excluded=_networks(site.config.ipvs.exclude_cidrs, site.family),
        )
        return IpvsBackend(programs, settings, lambda known: _renewed(known, site.node_ports))


def _networks(cidrs: tuple[str, ...], family: Family) -> tuple[str, ...]:
    canonical = filter(None, map(canonical_network, cidrs))
    return tuple(one for one in canonical if family_of(one) is family)


def _renewed(settings: Settings, node_ports: NodePortAddresses) -> Settings:
    """The settings with the node's addresses of now. Our own device's are no addresses of the node."""
    elsewhere = [
        one.address
        for one in links.addresses(settings.family)
        if one.interface != DEVICE and not is_loopback(one.address) and not is_link_local(one.address)
    ]
    return replace(settings, elsewhere=frozenset(elsewhere), node_ports=tuple(node_ports.matching(elsewhere)))
