"""A node that is made of what a test says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kpx.kernel.ipset import Entry, Header
from kpx.kernel.ipvs.types import RealServer, Virtual, VirtualServer
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.wire import TableName
from kpx.kernel.routes import Route
from kpx.net import Family
from kpx.trace.iptables_rules import IptablesRule
from kpx.trace.outcome import Base, Hook, Rule
from kpx.trace.packet import Packet

NODE = "192.0.2.1"


@dataclass
class MadeUp:
    """`Facts`: everything but the node's own addresses is beyond ``eth0``."""

    local: tuple[str, ...] = (NODE, "127.0.0.1")
    ipsets: Mapping[str, set[Entry]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    servers: Mapping[Virtual, tuple[VirtualServer, list[RealServer]]] = field(default_factory=dict)

    def route(self, packet: Packet) -> Route:
        return Route("local", "lo") if packet.destination in self.local else Route("unicast", "eth0")

    def address_type(self, address: str) -> str:
        return "local" if address in self.local else "unicast"

    def masquerade_address(self, packet: Packet) -> str:
        return NODE

    def own_address(self, interface: str) -> str:
        return NODE

    def interface_index(self, interface: str) -> int:
        return len(interface)

    def is_bridge(self, interface: str) -> bool:
        return interface.startswith("br")

    def listens(self, packet: Packet) -> bool:
        return packet.port == 22

    def ipset(self, name: str) -> Header | None:
        if name not in self.ipsets:
            return None
        return Header(name, self.kinds[name], Family.IPV4, len(self.ipsets[name]), 1)

    def in_ipset(self, name: str, entry: Entry) -> bool:
        return entry in self.ipsets[name]

    def nft_set(self, table: TableName, name: str) -> Set | None:
        return None

    def element(self, table: TableName, name: str, key: bytes) -> Element | None:
        return None

    def virtual_server(self, virtual: Virtual) -> VirtualServer | None:
        return self.servers[virtual][0] if virtual in self.servers else None

    def real_servers(self, virtual: Virtual) -> Sequence[RealServer]:
        return self.servers[virtual][1]

    def keeps_conntrack(self) -> bool:
        return True


class Tables:
    """`Rules` of iptables, as ``{"nat PREROUTING": [...]}``."""

    def __init__(self, facts: MadeUp, **chains: list[str]) -> None:
        self._chains = {
            name.replace("__", " ").replace("_", "-"): [IptablesRule(f"-A X {one}", facts) for one in rules]
            for name, rules in chains.items()
        }

    def bases(self, hook: Hook) -> Sequence[Base]:
        priorities = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0}
        return [
            Base(hook, table, chain, priorities[table], nat=table == "nat", kind="made up")
            for table, _, chain in (name.partition(" ") for name in self._chains)
            if chain == hook.name
        ]

    def chain(self, base: Base, name: str) -> Sequence[Rule]:
        return self._chains.get(f"{base.table} {name}", [])
