"""Frontends: what must happen to a packet sent to a Service, worked out once for every backend and every tool.

One `Frontends` is made for each service port (namespace, name, port name, protocol) and family: the virtual addresses
it answers on, and the two lists of endpoints that answer. Backends render it; trace and doctor compare it with what
the kernel holds. Source: kube-proxy 1.36 (categorisation of endpoints, traffic policies).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import msgspec

from kpx.net import join_port


class ServiceName(NamedTuple):
    """The name of a Service."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ServicePortName(NamedTuple):
    """The name of a service port. ``protocol`` is TCP, UDP or SCTP; ``port`` is the port's name and may be empty."""

    namespace: str
    name: str
    port: str
    protocol: str

    def __str__(self) -> str:
        """``ns/name:port`` as in kube-proxy's comments and chain hashes (without the protocol)."""
        return f"{self.namespace}/{self.name}:{self.port}" if self.port else f"{self.namespace}/{self.name}"

    @property
    def service(self) -> ServiceName:
        return ServiceName(self.namespace, self.name)


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """A backend of a service port: a canonical address and a port, with what its EndpointSlice says of it."""

    ip: str
    port: int
    local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``ip:port``, IPv6 in brackets: the identity of an endpoint within its service port."""
        return join_port(self.ip, self.port)


class Kind(Enum):
    """What sort of address a frontend is."""

    CLUSTER_IP = "cluster"
    EXTERNAL_IP = "external"
    LOAD_BALANCER = "loadbalancer"
    NODE_PORT = "nodeport"


class Scope(Enum):
    """Which of a service port's two lists of endpoints answers: the traffic policy."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class Verdict(Enum):
    """What happens to a packet of a frontend: forwarded to an endpoint of its scope, or else."""

    FORWARD = "forward"
    REJECT = "reject"
    DROP = "drop"


class Masquerade(Enum):
    """Whose source address is rewritten on the way to an endpoint (besides a pod that reaches itself)."""

    ALWAYS = "always"
    OFF_CLUSTER = "off-cluster"
    NODE = "node"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Frontend:
    """One virtual address of a service port.

    ``address`` is None for a node port, which answers on the node's own addresses. ``scope`` is the list that serves
    it; with an external kind and scope LOCAL, pods of this node and the node itself are served by the cluster list
    all the same (they are "short-circuited"). ``sources`` are the networks that may use it, none for everybody.
    """

    kind: Kind
    address: str | None
    port: int
    protocol: str
    scope: Scope
    verdict: Verdict
    masquerade: Masquerade
    sources: tuple[str, ...] = ()

    @property
    def external(self) -> bool:
        return self.kind is not Kind.CLUSTER_IP

    @property
    def short_circuit(self) -> bool:
        """Whether traffic from this node and its pods is served by the cluster list, past the policy Local."""
        return self.external and self.scope is Scope.LOCAL


@dataclass(frozen=True, slots=True)
class Frontends:
    """A service port as this node serves it in one family.

    ``endpoints`` are all that the slices name, in whatever state, ordered by identity; ``cluster`` and ``local`` are
    the lists that the scopes stand for, and ``reachable`` is their union. ``affinity`` is the session affinity's
    time in seconds, or None. ``has_endpoints`` tells a service port with no usable endpoint anywhere (reject) from
    one that has some, but none for this traffic (drop).
    """

    port: ServicePortName
    frontends: tuple[Frontend, ...]
    endpoints: tuple[Endpoint, ...] = ()
    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    reachable: tuple[Endpoint, ...] = ()
    has_endpoints: bool = False
    affinity: int | None = None
    internal_scope: Scope = Scope.CLUSTER
    external_scope: Scope = Scope.CLUSTER
    health_check_port: int | None = None

    def served_by(self, scope: Scope) -> tuple[Endpoint, ...]:
        """The list of endpoints that a scope stands for."""
        return self.local if scope is Scope.LOCAL else self.cluster

    def answers(self, address: str | None, port: int) -> bool:
        """Whether it answers on an address (or any: None) and port (or any: 0); a node port does on every address."""
        return any(
            address in (None, one.address) or one.address is None for one in self.frontends if port in (0, one.port)
        )
