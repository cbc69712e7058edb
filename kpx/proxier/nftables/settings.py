"""What the table of nftables mode depends on besides the frontends."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.proxier.node import LocalTraffic

TABLE = "kpx"
NF_FAMILIES = {Family.IPV4: NfFamily.IP, Family.IPV6: NfFamily.IP6}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one family.

    ``mark`` is the masquerade mark. ``node_ports`` are the addresses that node ports answer on, None for all of the
    node's but loopback. ``service_cidrs`` are the networks that ClusterIPs are taken from, none if not known.
    """

    family: Family
    local_traffic: LocalTraffic | None = None
    node_ip: str = ""
    mark: int = 0x4000
    node_ports: tuple[str, ...] | None = None
    service_cidrs: tuple[str, ...] = ()

    @property
    def nf_family(self) -> NfFamily:
        return NF_FAMILIES[self.family]

    @property
    def table(self) -> TableName:
        return TableName(self.nf_family, TABLE)
