"""What IPVS does with a packet that has reached it. Pure.

Source: ``net/netfilter/ipvs/ip_vs_core.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from kpx.kernel.ipvs.types import Flag, Method, RealServer, Virtual, VirtualServer
from kpx.trace.facts import VirtualServers
from kpx.trace.packet import Packet

# Schedulers that send connections by the weights of the real servers, whoever sends them.
_BY_TURNS: dict[str, Callable[[RealServer], int]] = {"rr": lambda _: 1, "wrr": lambda one: one.weight}


@dataclass(frozen=True, slots=True)
class Served:
    """A real server that a packet may be sent to; ``share`` is None where the scheduler looks at more than weights."""

    packet: Packet
    share: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Service:
    """The virtual server that a packet meets."""

    server: VirtualServer
    served: tuple[Served, ...]

    @property
    def text(self) -> str:
        """As ``ipvsadm`` writes it: ``TCP 10.96.0.1:443 rr persistent 600``."""
        settings = self.server.settings
        persistent = f" persistent {settings.timeout}" if self.persistent else ""
        return f"{self.server.virtual} {settings.scheduler}{persistent}"

    @property
    def persistent(self) -> bool:
        return bool(self.server.settings.flags & Flag.PERSISTENT)


def find(packet: Packet, facts: VirtualServers) -> Service | None:
    """The virtual server of a packet: of its mark, of its address and port, or of all ports of its address."""
    for virtual in _candidates(packet):
        server = facts.virtual_server(virtual)
        if server is not None:
            reals = [one for one in facts.real_servers(virtual) if one.weight > 0]
            return Service(server, tuple(_served(packet, server, reals, conntrack=facts.keeps_conntrack())))
    return None


def _candidates(packet: Packet) -> Iterator[Virtual]:
    if packet.mark:
        yield Virtual("", 0, "", packet.mark, packet.family)
    yield Virtual(packet.destination, packet.port, packet.protocol.upper())
    yield Virtual(packet.destination, 0, packet.protocol.upper())


def _served(packet: Packet, server: VirtualServer, reals: list[RealServer], *, conntrack: bool) -> Iterator[Served]:
    weigh = _BY_TURNS.get(server.settings.scheduler)
    total = sum(map(weigh, reals)) if weigh else 0
    for one in reals:
        share = 1.0 if len(reals) == 1 else weigh(one) / total if weigh else None
        changed = replace(
            packet,
            destination=one.real.address if one.method == Method.MASQUERADE else packet.destination,
            port=(one.real.port or packet.port) if one.method == Method.MASQUERADE else packet.port,
            incoming="",
            state=packet.state if conntrack else "UNTRACKED",
            virtual=(packet.destination, packet.port),
        )
        how = "" if one.method == Method.MASQUERADE else f" ({Method(one.method).name.lower()})"
        yield Served(changed, share, f"to {one.real}{how}, weight {one.weight}")
