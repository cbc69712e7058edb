"""What the documents of a bundle hold: their names, and the types that they are written and read by."""

from __future__ import annotations

import msgspec

from kpx.bundle.answers import Answered
from kpx.cluster.objects import Node, Service
from kpx.kernel.conntrack import Flow
from kpx.kernel.ipset import Entry, Header
from kpx.kernel.iptables.program import Variant
from kpx.kernel.ipvs.types import RealServer, VirtualServer
from kpx.kernel.links import InterfaceAddress
from kpx.kernel.routes import Neighbour
from kpx.kernel.routing_tables import Link, RoutingRule, TableRoute
from kpx.net import Family
from kpx.proxier.published import PublishedPort
from kpx.tools.stock import Configuration

RULESET, RULESET_TEXT, IPTABLES = "nftables/ruleset.netlink", "nftables/ruleset.txt", "iptables/"
IPSETS, IPVS, NETWORK, SETTINGS = "ipsets.json", "ipvs.json", "network.json", "sysctls.json"
CLUSTER, OBJECTS, CONNTRACK, ANSWERS = "cluster.json", "objects.json", "conntrack.json", "doctor.json"
SOCKETS, METRICS = "sockets.json", "metrics.txt"


class KeptCluster(msgspec.Struct, frozen=True):
    """What was wanted of the node, and who said so. ``services`` are all, those that no proxy serves too."""

    source: str
    origin: str
    node: str
    mode: str
    notes: tuple[str, ...]
    ports: tuple[PublishedPort, ...]
    proxy: Configuration | None = None
    here: Node | None = None
    services: tuple[Service, ...] = ()


class KeptSet(msgspec.Struct, frozen=True):
    """An IP set; ``entries`` is None for a type whose entries kpx cannot read."""

    header: Header
    entries: tuple[Entry, ...] | None


class KeptServer(msgspec.Struct, frozen=True):
    """A virtual server with its real servers."""

    virtual: VirtualServer
    reals: tuple[RealServer, ...]


class Network(msgspec.Struct, frozen=True):
    """Interfaces, addresses (``speaking`` are those that a source is chosen from), routing tables and neighbours."""

    links: tuple[Link, ...]
    addresses: tuple[InterfaceAddress, ...]
    speaking: tuple[InterfaceAddress, ...]
    routes: tuple[TableRoute, ...]
    rules: tuple[RoutingRule, ...]
    neighbours: tuple[tuple[Family, tuple[Neighbour, ...]], ...]


class KeptSocket(msgspec.Struct, frozen=True):
    """A socket that takes what comes for a port, and whose it is, as far as that can be seen (pid 0: not)."""

    protocol: str
    address: str
    port: int
    pid: int = 0
    name: str = ""


class KeptFlows(msgspec.Struct, frozen=True):
    """The first flows of the conntrack table; ``total`` counts all."""

    total: int
    flows: tuple[Flow, ...]


Settings = dict[str, str]
KeptAnswers = list[Answered]


def iptables_file(variant: Variant, family: Family, table: str) -> str:
    """Where the rules of a table are."""
    return f"{IPTABLES}{variant.value}-{family.value}-{table}.txt"
