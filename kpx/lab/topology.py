"""What the lab looks like: its places, their addresses and who routes for whom.

::

    client ------+                    +-- node-a -- a10, a11, ...   (node-a is the node under test)
                 +----- router -------+
    client2 -----+                    +-- node-b -- b10, b11, ...

Every place is a network namespace with one link, ``eth0``, to the place that routes for it. The router stands for the
network around a cluster: it brings Service addresses to node-a, and its own servers answer what node-a sends out to
one of them, so that a packet which no rule has translated is told from one that a rule has dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from kpx.net import Family, family_of

NODE = "node-a"
ROUTER = "router"

# Addresses of Services, which the outside reaches through node-a: cluster IPs, load-balancer IPs, external IPs.
SERVICE_NETWORKS = (
    "10.96.0.0/12",
    "192.0.2.0/24",
    "198.51.100.200/32",
    "fd00:96::/32",
    "2001:db8:192::/48",
    "2001:db8:198::200/128",
)


class Role(Enum):
    """What a place is."""

    ROUTER = "router"
    NODE = "node"
    POD = "pod"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Place:
    """A network namespace of the lab.

    ``addresses`` are its IPv4 and its IPv6 address, the ones it speaks from; ``further`` are more addresses of its
    own. ``networks`` are routed to it: to hosts behind it, or (a client's) all its own, so that one client can speak
    from many addresses. ``uplink`` is the place that routes for it.
    """

    name: str
    role: Role
    uplink: str
    addresses: tuple[str, str]
    further: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def address(self, family: Family) -> str:
        return next(address for address in self.addresses if family_of(address) is family)

    @property
    def port(self) -> str:
        """The name of the uplink's end of the link."""
        return f"pod-{self.name}" if self.role is Role.POD else self.name

    @property
    def serves(self) -> bool:
        """Whether HTTP and UDP servers run here."""
        return self.role is not Role.CLIENT


_INFRASTRUCTURE = (
    Place(ROUTER, Role.ROUTER, "", ("10.199.0.1", "fd00:199::1")),
    Place(
        NODE,
        Role.NODE,
        ROUTER,
        ("10.199.0.21", "fd00:199::21"),
        further=("10.199.1.21", "fd00:199:1::21"),
        networks=("10.244.21.0/24", "fd00:244:0:21::/64", *SERVICE_NETWORKS),
    ),
    Place(
        "node-b",
        Role.NODE,
        ROUTER,
        ("10.199.0.22", "fd00:199::22"),
        networks=("10.244.22.0/24", "fd00:244:0:22::/64"),
    ),
    Place(
        "client",
        Role.CLIENT,
        ROUTER,
        ("203.0.113.10", "2001:db8:203::10"),
        networks=("203.0.113.0/24", "2001:db8:203::/64"),
    ),
    Place("client2", Role.CLIENT, ROUTER, ("198.51.100.150", "2001:db8:198::150")),
)
_PLACE_NAME = re.compile(r"router|node-[ab]|client2?|[ab]\d{1,3}")


def _pod(node: str, number: int) -> Place:
    """Pod ``a10`` is number 10 on node-a: 10.244.21.10 and fd00:244:0:21::10."""
    subnet = {"a": 21, "b": 22}[node]
    addresses = (f"10.244.{subnet}.{number}", f"fd00:244:0:{subnet}::{number}")
    return Place(f"{node}{number}", Role.POD, f"node-{node}", addresses)


@dataclass(frozen=True, slots=True)
class Topology:
    """The places of a lab. Pods are numbered from 2 to 254, on node-a and on node-b."""

    pods_a: tuple[int, ...] = (10, 11, 12)
    pods_b: tuple[int, ...] = (10, 11)

    @property
    def places(self) -> tuple[Place, ...]:
        """All places, each after its uplink."""
        pods = [_pod("a", number) for number in self.pods_a] + [_pod("b", number) for number in self.pods_b]
        return (*_INFRASTRUCTURE, *pods)

    def place(self, name: str) -> Place:
        """A place by its name; ``node`` is short for node-a. Raises KeyError."""
        name = NODE if name == "node" else name
        for place in self.places:
            if place.name == name:
                return place
        raise KeyError(name)

    def behind(self, uplink: str) -> tuple[Place, ...]:
        """The places that one place routes for."""
        return tuple(place for place in self.places if place.uplink == uplink)


DEFAULT = Topology()


def namespace(lab: str, place: str) -> str:
    """The name of a place's network namespace."""
    return f"{lab}-{place}"


def namespaces_of(lab: str, names: Iterable[str]) -> list[str]:
    """Those among the names of network namespaces that belong to a lab, whatever its topology."""
    prefix = f"{lab}-"
    return [name for name in names if name.startswith(prefix) and _PLACE_NAME.fullmatch(name.removeprefix(prefix))]
