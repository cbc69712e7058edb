"""What is known of a node that may move to kpx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MODES = ("iptables", "ipvs", "nftables")
FORWARDING, CONNTRACK_LIMIT = "net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max"


@dataclass(frozen=True, slots=True)
class Holding:
    """What the kernel holds of a proxy mode, in words; ``variant`` is that of iptables where these are its rules."""

    mode: str
    what: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a port: the name and process of it, both empty where they cannot be seen."""

    port: int
    owner: str = ""
    process: int = 0

    def __str__(self) -> str:
        return f"{self.owner}[{self.process}]" if self.owner else "a process that cannot be seen from here"


@dataclass(frozen=True, slots=True)
class Other:
    """A service proxy of another kind. ``serves`` is None where its own settings decide whether it serves Services."""

    name: str
    evidence: str
    remedy: str
    serves: bool | None = True


@dataclass(frozen=True, slots=True)
class Facts:
    """A reading of the node. ``mode`` is that of the proxy in force, empty where there is none or several could be it.

    ``lacks`` says by family what the kernel lacks for nftables, ``modules`` what keeps a module of mode ipvs from being
    used (empty: nothing does), ``iptables`` names the programs that mode iptables would use, or is empty and
    ``iptables_fault`` says why. ``settings`` are sysctls, None where there is no such. ``forward_drops`` names the
    programs in whose filter table FORWARD drops what no rule accepts. ``localhost_packets`` are those that node ports
    on 127.0.0.1 have accepted, None where that is not counted.
    """

    kernel: str
    mode: str = ""
    proxies: tuple[str, ...] = ()
    holdings: tuple[Holding, ...] = ()
    others: tuple[Other, ...] = ()
    listeners: tuple[Listener, ...] = ()
    lacks: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    iptables: str = ""
    iptables_fault: str = ""
    settings: Mapping[str, int | None] = field(default_factory=dict)
    conntrack_limit: int = 0
    forward_drops: tuple[str, ...] = ()
    localhost_packets: int | None = None
    scheduler: str = "rr"
