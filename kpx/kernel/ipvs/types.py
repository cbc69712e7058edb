"""What IPVS keeps, as values: virtual servers, real servers, what they counted, and the table's settings.

Source: ``linux/ip_vs.h``.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

import msgspec

from kpx.net import Family, family_of, join_port

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


class Flag(IntFlag):
    """Flags of a virtual server (``IP_VS_SVC_F_*``). What SCHED1 to SCHED3 mean depends on the scheduler."""

    PERSISTENT = 0x1
    HASHED = 0x2
    ONE_PACKET = 0x4
    SCHED1 = 0x8
    SCHED2 = 0x10
    SCHED3 = 0x20


# What the kernel sets by itself.
_OWN_FLAGS = Flag.HASHED


class Method(IntEnum):
    """How packets get to a real server (``IP_VS_CONN_F_*``)."""

    MASQUERADE = 0
    LOCAL = 1
    TUNNEL = 2
    ROUTE = 3


class Virtual(NamedTuple):
    """What identifies a virtual server: address, port and protocol; or a firewall mark, with an empty address.

    ``address`` is canonical text, ``protocol`` one of `PROTOCOLS` or a number as text.
    """

    address: str
    port: int
    protocol: str
    mark: int = 0
    marked_family: Family = Family.IPV4

    @property
    def family(self) -> Family:
        return self.marked_family if self.mark else family_of(self.address)

    def __str__(self) -> str:
        """``TCP 10.96.0.1:443``."""
        if self.mark:
            return f"FWM {self.mark}"
        return f"{self.protocol} {join_port(self.address, self.port)}"


class Real(NamedTuple):
    """What identifies a real server of a virtual one."""

    address: str
    port: int

    def __str__(self) -> str:
        return join_port(self.address, self.port)


class Settings(msgspec.Struct, frozen=True, gc=False):
    """How a virtual server works.

    ``timeout`` is that of persistence, in seconds; ``prefix`` the length of the client networks that persistence
    keeps together (0: that of a single address). ``mask`` takes its place for an IPv4 netmask that no length says:
    0.0.0.0, which keeps all clients together, or one with holes.
    """

    scheduler: str = "rr"
    flags: int = 0
    timeout: int = 0
    prefix: int = 0
    engine: str = ""
    mask: str = ""

    def alike(self, other: Settings) -> bool:
        """Whether both work in the same way, whatever the kernel adds to their flags."""
        return self._asked() == other._asked()

    def _asked(self) -> tuple[object, ...]:
        timeout = self.timeout if self.flags & Flag.PERSISTENT else 0
        return self.scheduler, self.flags & ~_OWN_FLAGS, timeout, self.prefix, self.mask, self.engine


class Counters(msgspec.Struct, frozen=True, gc=False):
    """What was counted since the start, and what passes a second (averaged by the kernel over some seconds)."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    connections_per_second: int = 0
    packets_in_per_second: int = 0
    packets_out_per_second: int = 0
    bytes_in_per_second: int = 0
    bytes_out_per_second: int = 0


NOTHING_COUNTED = Counters()


class VirtualServer(msgspec.Struct, frozen=True, gc=False):
    """A virtual server as the kernel has it."""

    virtual: Virtual
    settings: Settings
    counters: Counters = NOTHING_COUNTED


class RealServer(msgspec.Struct, frozen=True, gc=False):
    """A real server as the kernel has it. Connections are those that the kernel tracks now."""

    real: Real
    weight: int = 1
    method: int = Method.MASQUERADE
    active: int = 0
    inactive: int = 0
    persistent: int = 0
    upper: int = 0
    lower: int = 0
    counters: Counters = NOTHING_COUNTED

    @property
    def idle(self) -> bool:
        """Whether no connection needs it, not even one that is about to end."""
        return not self.active and not self.inactive


class Timeouts(NamedTuple):
    """How long idle connections are remembered, in seconds; 0 in a request leaves a time as it is."""

    tcp: int = 0
    tcp_fin: int = 0
    udp: int = 0


class Info(NamedTuple):
    """The version of IPVS, and the number of buckets of its connection table."""

    version: tuple[int, int, int]
    table_size: int
