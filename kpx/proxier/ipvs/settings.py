"""What ipvs mode depends on besides the frontends."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.kernel.ipvs.types import Flag
from kpx.kernel.ipvs.types import Settings as VirtualSettings
from kpx.net import Family
from kpx.proxier.node import LocalTraffic

# kube-proxy's, where the configuration names none.
DEFAULT_SCHEDULER = "rr"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one family.

    ``mark`` is the masquerade mark. ``node_ports`` are the addresses that node ports answer on now, ``elsewhere`` all
    addresses of the family that other interfaces than ours have. ``excluded`` are networks whose virtual servers are
    somebody else's.
    """

    family: Family
    scheduler: str = DEFAULT_SCHEDULER
    local_traffic: LocalTraffic | None = None
    masquerade_all: bool = False
    node_ip: str = ""
    mark: int = 0x4000
    random_fully: bool = True
    node_ports: tuple[str, ...] = ()
    elsewhere: frozenset[str] = frozenset()
    excluded: tuple[str, ...] = ()

    def virtual(self, affinity: int | None) -> VirtualSettings:
        """How a virtual server works, with the session affinity's time in seconds or without."""
        flags = Flag.PERSISTENT if affinity is not None else Flag(0)
        if self.scheduler == "mh":
            flags |= Flag.SCHED2  # mh-port: the client's port counts too
        return VirtualSettings(self.scheduler, int(flags), affinity or 0)
