"""The facts that a walk asks for, from the kernel: each question is put once."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cached_property

from kpx.kernel import links, sockets, sysctl
from kpx.kernel.ipset import Entry, Header, Ipsets, IpsetUnavailable
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable
from kpx.kernel.ipvs.types import RealServer, Virtual, VirtualServer
from kpx.kernel.links import InterfaceAddress
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import TableName
from kpx.kernel.routes import Neighbour, Route, Routing
from kpx.net import Family
from kpx.trace.packet import Packet

_CONNTRACK = "net/ipv4/vs/conntrack"


class KernelFacts:
    """`Facts` of the network namespace of the thread that makes it."""

    def __init__(self, nft: Nft) -> None:
        self._nft = nft
        self._routing = Routing()
        self._types: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._sets: dict[tuple[TableName, str], Set | None] = {}
        self._elements: dict[tuple[TableName, str, bytes], Element | None] = {}

    def close(self) -> None:
        self._routing.close()
        for opened in ("_ipsets", "ipvs"):
            if (door := self.__dict__.get(opened)) is not None:
                door.close()

    # Routes.

    def route(self, packet: Packet) -> Route:
        # What IPVS sends on is routed as the node's own, but nothing of the node is sent from the client's address.
        source = packet.source if packet.incoming or self.address_type(packet.source) == "local" else ""
        return self._routing.route(packet.destination, source=source, incoming=packet.incoming, mark=packet.mark)

    def route_to(self, destination: str) -> Route:
        """The route of what the node sends to a destination."""
        return self._routing.route(destination)

    def neighbours(self, family: Family) -> list[Neighbour]:
        """The hosts next to this node."""
        return self._routing.neighbours(family)

    def addresses(self, family: Family) -> list[InterfaceAddress]:
        """The node's own addresses."""
        return links.addresses(family)

    def address_type(self, address: str) -> str:
        if address not in self._types:
            self._types[address] = self._routing.route(address).kind
        return self._types[address]

    def masquerade_address(self, packet: Packet) -> str:
        route = self._routing.route(packet.destination, mark=packet.mark)
        if packet.family is Family.IPV6:
            return route.source
        return self._routing.masquerade_address(packet.outgoing, route.gateway or packet.destination)

    def own_address(self, interface: str) -> str:
        return self._routing.masquerade_address(interface, "0.0.0.0") if interface else ""

    def interface_index(self, interface: str) -> int:
        return socket.if_nametoindex(interface) if interface else 0

    def is_bridge(self, interface: str) -> bool:
        if interface not in self._kinds:
            self._kinds[interface] = self._routing.link_kind(interface)
        return self._kinds[interface] == "bridge"

    def listens(self, packet: Packet) -> bool:
        return packet.protocol == "sctp" or sockets.listens(packet.protocol, packet.destination, packet.port)

    # IP sets.

    @cached_property
    def _ipsets(self) -> Ipsets | None:
        try:
            return Ipsets()
        except IpsetUnavailable:
            return None

    def ipset(self, name: str) -> Header | None:
        return self._ipsets.header(name) if self._ipsets else None

    def in_ipset(self, name: str, entry: Entry) -> bool:
        return self._ipsets is not None and self._ipsets.contains(name, entry)

    # Sets of nftables.

    def nft_set(self, table: TableName, name: str) -> Set | None:
        if (table, name) not in self._sets:
            self._sets[table, name] = self._nft.declaration(table, name)
        return self._sets[table, name]

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        asked = table, name, key
        if asked not in self._elements:
            self._elements[asked] = self._nft.element(table, name, key)
        return self._elements[asked]

    # IPVS.

    @cached_property
    def ipvs(self) -> Ipvs | None:
        """The connection to IPVS, None where the kernel has none."""
        try:
            return Ipvs()
        except IpvsUnavailable:
            return None

    def virtual_server(self, virtual: Virtual) -> VirtualServer | None:
        return self.ipvs.virtual(virtual) if self.ipvs else None

    def real_servers(self, virtual: Virtual) -> Sequence[RealServer]:
        return self.ipvs.reals(virtual) if self.ipvs else ()

    def keeps_conntrack(self) -> bool:
        return sysctl.path(_CONNTRACK).exists() and sysctl.read_int(_CONNTRACK) != 0
