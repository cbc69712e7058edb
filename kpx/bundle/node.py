"""The kernel of a node as a bundle kept it: its rules, its routes, its tables; what the walk of a trace asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from kpx.bundle import contents
from kpx.bundle.archive import Archive
from kpx.kernel.ipset import Entry, Header
from kpx.kernel.iptables.program import IptablesError, Variant
from kpx.kernel.ipvs.types import RealServer, Virtual, VirtualServer
from kpx.kernel.links import InterfaceAddress
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.recorded import RecordedNft
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import TableName
from kpx.kernel.routes import Neighbour, Route
from kpx.kernel.routing_tables import Tables
from kpx.net import Family, canonical_network, contains, family_of, is_link_local, is_loopback, packed
from kpx.tools import held, in_iptables, in_ipvs, in_nftables, in_stock_nftables
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Held
from kpx.trace.packet import Packet
from kpx.trace.reading.rules import TABLES, Printers

_CONNTRACK = "net/ipv4/vs/conntrack"
_EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Printed:
    """What the programs of one variant of iptables printed of one family."""

    archive: Archive
    variant: Variant
    family: Family

    def saved(self, table: str) -> str:
        data = self.archive.data(contents.iptables_file(self.variant, self.family, table))
        if data is None:
            raise IptablesError(f"the bundle holds no table {table} of iptables-{self.variant.value}")
        return data.decode(errors="replace")

    def listed(self, table: str, chain: str) -> list[str]:
        mark = f" -A {chain} "
        return [line for line in self.saved(table).splitlines() if line.startswith("[") and mark in f"{line} "]

    @property
    def tables(self) -> list[str]:
        names = self.archive.names(contents.IPTABLES)
        return [one for one in TABLES if contents.iptables_file(self.variant, self.family, one) in names]


class RecordedNode:
    """`kpx.trace.facts.Facts` of a bundle, and who may send."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._types: dict[str, str] = {}

    # What was kept; each is read once, and where it is asked for.

    @cached_property
    def nft(self) -> RecordedNft:
        return RecordedNft(self._archive.data(contents.RULESET) or b"")

    @cached_property
    def network(self) -> contents.Network:
        found: contents.Network = self._archive.document(contents.NETWORK, contents.Network)
        return found

    @cached_property
    def settings(self) -> contents.Settings:
        found: contents.Settings = self._archive.document(contents.SETTINGS, contents.Settings)
        return found

    @cached_property
    def sockets(self) -> list[contents.KeptSocket]:
        found: list[contents.KeptSocket] = self._archive.document(contents.SOCKETS, list[contents.KeptSocket])
        return found

    @cached_property
    def servers(self) -> dict[Virtual, contents.KeptServer]:
        if self._archive.data(contents.IPVS) is None:
            return {}
        kept: list[contents.KeptServer] = self._archive.document(contents.IPVS, list[contents.KeptServer])
        return {one.virtual.virtual: one for one in kept}

    @cached_property
    def _ipsets(self) -> dict[str, contents.KeptSet]:
        if self._archive.data(contents.IPSETS) is None:
            return {}
        kept: list[contents.KeptSet] = self._archive.document(contents.IPSETS, list[contents.KeptSet])
        return {one.header.name: one for one in kept}

    @cached_property
    def _tables(self) -> Tables:
        return Tables(list(self.network.routes), list(self.network.rules))

    def printed(self, family: Family) -> tuple[Printed, Printed]:
        """What the legacy variant printed, and what the nft one did."""
        return Printed(self._archive, Variant.LEGACY, family), Printed(self._archive, Variant.NFT, family)

    def printers(self, family: Family) -> Printers:
        legacy, nft = self.printed(family)
        return Printers(legacy if legacy.tables else None, legacy.tables, nft if nft.tables else None)

    def held(self, mode: str) -> Held | None:
        """What the kernel held of Services in a mode, or in whichever."""
        return held.first(
            {
                "nftables": (
                    lambda: in_nftables.read_from(self.nft),
                    lambda: in_stock_nftables.read_from(self.nft),
                ),
                "ipvs": (self._in_ipvs,),
                "iptables": (self._in_iptables,),
            },
            mode,
        )

    def _in_ipvs(self) -> Held | None:
        servers = {virtual: list(one.reals) for virtual, one in self.servers.items() if not virtual.mark}
        return in_ipvs.read_from(servers, self.network.addresses)

    def _in_iptables(self) -> Held | None:
        printed = {
            family: [partial(_lines, one) for one in self.printed(family) if "nat" in one.tables] for family in Family
        }
        return in_iptables.read_from(printed)

    # Routes: as the kernel decides, as far as the tables and settings say.

    def route(self, packet: Packet) -> Route:
        local = self.address_type(packet.source) == "local"
        if not packet.incoming:
            return self._route(packet.destination, packet.source if local else "", packet.mark)
        if local or self._martian(packet):
            return Route("martian")
        found = self._tables.route(packet.destination, packet.source, packet.incoming, packet.mark)
        if found.kind == "unicast" and not self._forwards(packet):
            return Route("unreachable")
        return replace(found, source="")

    def _martian(self, packet: Packet) -> bool:
        """Whether the source, or a loopback address, must not come in there."""
        loopback = [one for one in (packet.source, packet.destination) if is_loopback(one)]
        if loopback and (packet.family is Family.IPV6 or not self._on(packet.incoming, "route_localnet")):
            return True
        if packet.family is Family.IPV6 or self._conf(packet.incoming, "rp_filter") != 1:
            return False
        return self._tables.route(packet.source).interface != packet.incoming

    def _forwards(self, packet: Packet) -> bool:
        if packet.family is Family.IPV4:
            return self.settings.get(f"net/ipv4/conf/{packet.incoming}/forwarding", "1") != "0"
        return self.settings.get("net/ipv6/conf/all/forwarding", "1") != "0"

    def _on(self, interface: str, name: str) -> bool:
        return self._conf(interface, name) != 0

    def _conf(self, interface: str, name: str) -> int:
        """A setting of an interface, or that of all, whichever is higher."""
        return max(int(self.settings.get(f"net/ipv4/conf/{one}/{name}", "0")) for one in ("all", interface))

    def _route(self, destination: str, source: str = "", mark: int = 0) -> Route:
        found = self._tables.route(destination, source, mark=mark)
        if found.kind == "local":
            return Route("local", "lo", source=source or found.source or destination)
        if found.kind == "unicast":
            return replace(
                found, source=source or found.source or self._own(found.interface, destination, found.gateway)
            )
        return Route(found.kind) if found.kind not in ("broadcast", "multicast", "anycast") else found

    def _own(self, interface: str, destination: str, gateway: str) -> str:
        """The address that the node speaks from where no route prefers one."""
        family = family_of(destination)
        if family is Family.IPV4:
            return self._masquerading(interface, gateway or destination)
        known = [one for one in self.network.speaking if one.family is family]
        known.sort(key=lambda one: (one.interface != interface, -_alike(one.address, destination)))
        near = [one.address for one in known if one.interface == interface]
        fitting = [one.address for one in known if is_link_local(one.address) == is_link_local(destination)]
        return next(iter([*fitting, *near]), "")

    def route_to(self, destination: str) -> Route:
        return self._route(destination)

    def neighbours(self, family: Family) -> list[Neighbour]:
        return [one for of, some in self.network.neighbours if of is family for one in some]

    def addresses(self, family: Family | None = None) -> list[InterfaceAddress]:
        return [one for one in self.network.addresses if family in (None, one.family)]

    def address_type(self, address: str) -> str:
        if address not in self._types:
            self._types[address] = self._tables.route(address).kind
        return self._types[address]

    def masquerade_address(self, packet: Packet) -> str:
        route = self._route(packet.destination, mark=packet.mark)
        if packet.family is Family.IPV6:
            return route.source
        return self._masquerading(packet.outgoing, route.gateway or packet.destination)

    def _masquerading(self, interface: str, next_hop: str) -> str:
        """As the kernel's ``inet_select_addr`` has it; see `kpx.kernel.routes`."""
        known = [one for one in self.network.speaking if one.family is Family.IPV4]
        own = [one for one in known if one.interface == interface]
        near = [one for one in own if _holds(one, next_hop)]
        return next((one.address for some in (near, own, known) for one in some), "")

    def own_address(self, interface: str) -> str:
        return self._masquerading(interface, "0.0.0.0") if interface else ""

    def interface_index(self, interface: str) -> int:
        return next((one.number for one in self.network.links if one.name == interface), 0)

    def is_bridge(self, interface: str) -> bool:
        return any(one.name == interface and one.kind == "bridge" for one in self.network.links)

    def listens(self, packet: Packet) -> bool:
        if packet.protocol == "sctp":
            return True
        return any(
            (one.protocol, one.port) == (packet.protocol, packet.port) and _bound(one.address, packet.destination)
            for one in self.sockets
        )

    # IP sets.

    def ipset(self, name: str) -> Header | None:
        return self._ipsets[name].header if name in self._ipsets else None

    def in_ipset(self, name: str, entry: Entry) -> bool:
        kept = self._ipsets.get(name)
        if kept is None:
            return False
        if kept.entries is None:
            raise ToolError(f"the bundle does not hold the entries of the IP set {name} ({kept.header.type})")
        return any(
            one[:3] == entry[:3] and contains(one.second, entry.second.partition("/")[0])
            if "/" in one.second
            else one == entry
            for one in kept.entries
        )

    # Sets of nftables.

    def nft_set(self, table: TableName, name: str) -> Set | None:
        return self.nft.declaration(table, name)

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        return self.nft.element(table, name, key)

    # IPVS.

    def virtual_server(self, virtual: Virtual) -> VirtualServer | None:
        return self.servers[virtual].virtual if virtual in self.servers else None

    def real_servers(self, virtual: Virtual) -> Sequence[RealServer]:
        return self.servers[virtual].reals if virtual in self.servers else ()

    def keeps_conntrack(self) -> bool:
        return self.settings.get(_CONNTRACK, "0") != "0"


def _lines(printed: Printed, table: str) -> Iterator[str]:
    return iter(printed.saved(table).splitlines()) if table in printed.tables else iter(())


def _holds(own: InterfaceAddress, address: str) -> bool:
    """Whether an address is in the network of one of the node's."""
    return contains(canonical_network(f"{own.address}/{own.prefix}") or "", address)


def _alike(one: str, other: str) -> int:
    """How many bits two addresses have in common at their begin."""
    differing = int.from_bytes(packed(one), "big") ^ int.from_bytes(packed(other), "big")
    return family_of(one).bits - differing.bit_length()


def _bound(bound: str, destination: str) -> bool:
    """Whether a socket takes what comes for an address: one of IPv6 takes IPv4 too, where it is bound to all."""
    if ":" in destination:
        return bound in ("::", destination)
    return bound in (*_EVERYWHERE, destination, f"::ffff:{destination}")
