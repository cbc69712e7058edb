"""What IPVS did with a flow: no rule tells it. It is known from conntrack, or else from the table of IPVS itself."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.kernel.conntrack import Tuple
from kpx.kernel.ipvs import connections
from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.table import loaded
from kpx.trace import ipvs
from kpx.trace.facts import VirtualServers
from kpx.trace.live.flow import End
from kpx.trace.packet import PROTOCOL_NUMBERS, Packet

_PROTOCOLS = {number: name for name, number in PROTOCOL_NUMBERS.items()}
# The kernel's table of connections is slow to read, where it is big.
_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Served:
    """The virtual server that took a flow, as ``ipvsadm`` writes it, and the real one that it gave it to.

    ``real`` is None for a virtual server that has none, which rejects what it gets.
    """

    server: str
    real: End | None


def served(flow: Tuple, translated: End | None, facts: VirtualServers) -> Served | None:
    """What IPVS made of a flow, None if it does not serve it; `translated` is where conntrack says that it went."""
    name = _PROTOCOLS.get(flow.protocol)
    if name is None or not loaded():
        return None
    packet = Packet(flow.source, flow.destination, flow.destination_port, name)
    service = ipvs.find(packet, facts)
    if service is None:
        return None
    if not service.served:
        return Served(service.text, None)
    if translated is not None and translated != End(flow.destination, flow.destination_port):
        return Served(service.text, translated)
    wanted = name.upper(), flow.source, flow.source_port, flow.destination, flow.destination_port

    def same(one: Connection) -> bool:
        return (one.protocol, one.client, one.client_port, one.virtual, one.virtual_port) == wanted

    found = next(iter(connections.sample(1, _SECONDS, same).connections), None)
    return Served(service.text, End(found.real, found.real_port)) if found else None
