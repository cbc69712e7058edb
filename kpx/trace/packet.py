"""The packet under trace: what rules look at, and what they have done to it so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kpx.net import Family, family_of, join_port

PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a flow, at one point of its path.

    ``incoming`` and ``outgoing`` are names of interfaces, empty where there is none: a packet that the node sends has
    come in by none. ``state`` is conntrack's word for it. The source port is not known before a packet is sent.

    ``destination_bound`` and ``source_bound`` say that the flow's translation is settled, be it to none: the kernel
    asks the nat chains once for each. ``virtual`` is the virtual server of IPVS that took the packet.
    """

    source: str
    destination: str
    port: int
    protocol: str
    incoming: str = ""
    outgoing: str = ""
    mark: int = 0
    ct_mark: int = 0
    state: str = "NEW"
    destination_translated: bool = False
    source_translated: bool = False
    destination_bound: bool = False
    source_bound: bool = False
    masqueraded: bool = False
    random_port: bool = False
    virtual: tuple[str, int] | None = None

    @property
    def family(self) -> Family:
        return family_of(self.destination)

    @property
    def target(self) -> str:
        """``address:port``."""
        return join_port(self.destination, self.port)

    def translated(self, address: str, port: int | None) -> Packet:
        """With another destination."""
        return replace(
            self,
            destination=address or self.destination,
            port=self.port if port is None else port,
            destination_translated=True,
            destination_bound=True,
        )

    def sent_as(self, source: str, *, masqueraded: bool = False, random_port: bool = False) -> Packet:
        """With another source."""
        return replace(
            self,
            source=source,
            source_translated=True,
            source_bound=True,
            masqueraded=masqueraded,
            random_port=random_port,
        )
