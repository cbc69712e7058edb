"""What the walk asks of the node: the seam between the pure walk and what reads the kernel (`kpx.trace.reading`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kpx.kernel.ipset import Entry, Header
from kpx.kernel.ipvs.types import RealServer, Virtual, VirtualServer
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import TableName
from kpx.kernel.routes import Route
from kpx.trace.packet import Packet


class Routes(Protocol):
    """Where the node sends packets, and which addresses are its own."""

    def route(self, packet: Packet) -> Route:
        """The routing decision for the packet as it is."""

    def address_type(self, address: str) -> str:
        """``local``, ``unicast``, ``broadcast`` and so on: what the routing tables call an address."""

    def masquerade_address(self, packet: Packet) -> str:
        """The address that masquerading gives the packet; empty if that is not known."""

    def own_address(self, interface: str) -> str:
        """The address that a redirected packet from an interface gets; empty if there is none."""

    def interface_index(self, interface: str) -> int:
        """The number of an interface; 0 for none."""

    def is_bridge(self, interface: str) -> bool:
        """Whether packets of an interface may have come through a bridge."""

    def listens(self, packet: Packet) -> bool:
        """Whether a process of the node has a socket for the packet's destination."""


class Ipsets(Protocol):
    """The IP sets that rules of iptables refer to."""

    def ipset(self, name: str) -> Header | None:
        """A set, or None if there is none."""

    def in_ipset(self, name: str, entry: Entry) -> bool:
        """Whether a set holds an entry."""


class NftSets(Protocol):
    """The sets and maps that rules of nftables refer to."""

    def nft_set(self, table: TableName, name: str) -> Set | None:
        """A set's declaration, or None if there is no such set."""

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        """The element of a set that a key finds."""


class VirtualServers(Protocol):
    """What IPVS serves."""

    def virtual_server(self, virtual: Virtual) -> VirtualServer | None:
        """A virtual server, or None if there is none."""

    def real_servers(self, virtual: Virtual) -> Sequence[RealServer]:
        """The real servers of a virtual one."""

    def keeps_conntrack(self) -> bool:
        """Whether conntrack follows what IPVS translates (``net.ipv4.vs.conntrack``): else nat chains do not."""


class Facts(Routes, Ipsets, NftSets, VirtualServers, Protocol):
    """All of it."""
