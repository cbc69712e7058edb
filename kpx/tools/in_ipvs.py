"""The IPVS table: it counts the connections of each real server, and knows no names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kpx.kernel import links
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable
from kpx.kernel.ipvs.types import RealServer, Virtual
from kpx.kernel.links import InterfaceAddress
from kpx.net import Family, family_of
from kpx.proxier.frontends import Frontends, Kind, ServicePortName
from kpx.proxier.ipvs.names import DEVICE
from kpx.tools.kernel import Destination, Finds, Port

Servers = Mapping[Virtual, list[RealServer]]


class IpvsHeld:
    """The `Held` of mode ipvs. `node` are the addresses that node ports answer on."""

    program = "mode ipvs"
    counts = True

    def __init__(self, servers: Servers, node: frozenset[str]) -> None:
        self._servers = servers
        self._node = node

    def connections(self, family: Family, frontends: Frontends) -> Mapping[Destination, int]:
        found = {(one.ip, one.port): 0 for one in frontends.reachable}
        for frontend in frontends.frontends:
            addresses = self._node if frontend.address is None else (frontend.address,)
            for address in addresses:
                for real in self._servers.get(Virtual(address, frontend.port, frontend.protocol), ()):
                    destination = tuple(real.real)
                    if destination in found:
                        found[destination] += real.counters.connections
        return found

    def ports(self) -> list[Port]:
        """One for each virtual server: what belongs to one Service cannot be told."""
        finds = Finds()
        for virtual, reals in self._servers.items():
            found = finds.of(virtual.family, ServicePortName("", "", str(virtual), virtual.protocol))
            kind = Kind.NODE_PORT if virtual.address in self._node else Kind.CLUSTER_IP
            found.answers(kind, virtual.address, virtual.port)
            for one in reals:
                found.leads(one.real.address, one.real.port)
        return finds.ports()


def read() -> IpvsHeld | None:
    """The IPVS table; None if the kernel has none, or an empty one."""
    try:
        with Ipvs() as ipvs:
            servers = {one.virtual: ipvs.reals(one.virtual) for one in ipvs.virtuals() if not one.virtual.mark}
    except IpvsUnavailable:
        return None
    return read_from(servers, links.addresses())


def read_alone(ports: Iterable[Port]) -> IpvsHeld | None:
    """The virtual servers of these service ports alone; None where the kernel has no IPVS. Raises OSError."""
    node = _of_node(links.addresses())
    wanted = {
        Virtual(address, frontend.port, frontend.protocol)
        for family, one in ports
        for frontend in one.frontends
        for address in (node if frontend.address is None else (frontend.address,))
        if family_of(address) is family
    }
    try:
        with Ipvs() as ipvs:
            return IpvsHeld({one: ipvs.reals(one) for one in wanted}, node)
    except IpvsUnavailable:
        return None


def read_from(servers: Servers, addresses: Iterable[InterfaceAddress]) -> IpvsHeld | None:
    """A table on a node with these addresses."""
    return IpvsHeld(servers, _of_node(addresses)) if servers else None


def _of_node(addresses: Iterable[InterfaceAddress]) -> frozenset[str]:
    """The addresses that are the node's own, and not those of Services."""
    return frozenset(one.address for one in addresses if one.interface != DEVICE)
