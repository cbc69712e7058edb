"""nodePortAddresses: the addresses of this node on which node ports answer.

Pure. Source: kube-proxy 1.36.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from kpx.net import Family, family_of, is_loopback

PRIMARY = "primary"
_LOOPBACK = ipaddress.ip_address("127.0.0.0")


class NodePortAddresses:
    """The setting, as it applies to one family.

    ``match_all`` means every local address: also where the setting names networks of the other family only.
    ``contains_loopback`` is about IPv4; kube-proxy's IPv6 node ports never answer on loopback.
    """

    def __init__(self, cidrs: Iterable[str], family: Family) -> None:
        """`cidrs` are canonical networks (`kpx.net.canonical_network`) of any family, `PRIMARY` already resolved."""
        self.family = family
        everything = ipaddress.ip_network("0.0.0.0/0" if family is Family.IPV4 else "::/0")
        networks = [ipaddress.ip_network(cidr) for cidr in cidrs if family_of(cidr) is family] or [everything]
        self.match_all = everything in networks
        self._networks = [everything] if self.match_all else networks
        self.contains_loopback = family is Family.IPV4 and any(
            network.network_address.is_loopback or _LOOPBACK in network for network in self._networks
        )

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(map(str, self._networks))

    def matching(self, addresses: Iterable[str]) -> list[str]:
        """Those of the node's addresses on which node ports answer, each once, in order."""
        return [address for address in dict.fromkeys(addresses) if self._matches(address)]

    def _matches(self, address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in self._networks)


def resolve_primary(cidrs: Sequence[str], node_ips: Mapping[Family, str]) -> list[str]:
    """The setting with ``primary`` replaced by the node's own addresses.

    Empty (which means every local address) if the node has none but loopback, kube-proxy's placeholder.
    """
    if list(cidrs) != [PRIMARY]:
        return list(cidrs)
    known = [node_ips[family] for family in Family if family in node_ips]
    return [f"{address}/{family_of(address).bits}" for address in known if not is_loopback(address)]
