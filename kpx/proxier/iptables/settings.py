"""What the rules of iptables mode depend on besides the frontends."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.net import Family
from kpx.proxier.node import LocalTraffic

INVALID_DROPPED = "ct_state_invalid_dropped_pkts"
LOCALHOST_ACCEPTED = "localhost_nps_accepted_pkts"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one family.

    ``mark`` is the masquerade mark. ``node_ports`` are the addresses that node ports answer on, None for all of the
    node's. ``drop_invalid``: packets that conntrack finds invalid are dropped. ``counters`` are the packet accounting
    objects that the kernel provides (of `INVALID_DROPPED` and `LOCALHOST_ACCEPTED`). ``comments`` is off in large
    clusters (over 1,000 endpoints), where kube-proxy leaves them out of the rules of endpoints.
    """

    family: Family
    local_traffic: LocalTraffic | None = None
    node_ip: str = ""
    mark: int = 0x4000
    node_ports: tuple[str, ...] | None = None
    localhost_node_ports: bool = False
    drop_invalid: bool = True
    random_fully: bool = True
    counters: frozenset[str] = frozenset()
    comments: bool = True
