"""What checks ask of the node: the seam between what decides and what reads (`kpx.doctor.reading`).

A question that cannot be answered here raises `NotKnown` with the reason; its check is then skipped for that reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from kpx.doctor.finding import Command
from kpx.kernel.links import InterfaceAddress
from kpx.kernel.routes import Route
from kpx.net import Family
from kpx.proxier.frontends import Frontend, ServicePortName
from kpx.proxier.published import Listed, Status
from kpx.tools.cluster import Cluster
from kpx.tools.flows import Share, ShownFlow, Usage
from kpx.tools.kernel import Held
from kpx.tools.stock import Configuration
from kpx.trace.result import Hop, Trace
from kpx.trace.target import Target


class NotKnown(Exception):
    """The question has no answer here; the text says why."""


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A service proxy that runs in this network namespace. ``stopped``: a signal or a debugger holds it."""

    name: str
    pid: int
    stopped: bool = False

    def __str__(self) -> str:
        return f"{self.name}[{self.pid}]"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What the kernel holds of one way to program Services, in one family.

    ``kind`` is ``iptables-nft``, ``iptables-legacy``, ``kpx`` or ``kube-proxy`` (their nftables tables) or ``ipvs``;
    ``served`` counts what belongs to single Services; ``rules`` are all rules there, whoever made them.
    """

    kind: str
    family: Family
    served: int
    rules: int
    own: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP; ``status`` 0 and ``error`` where there was none."""

    status: int
    body: str = ""
    error: str = ""


class Outcome(Enum):
    """What became of a connection that was tried."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TIMEOUT = "no answer"
    UNREACHABLE = "unreachable"
    SILENT = "sent, and nothing came back"  # a datagram


class Call(NamedTuple):
    """A connection to try: from a pod of this node (its address), or with an empty ``sender`` from the node."""

    sender: str
    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Reach:
    """A connection that was tried, from whom."""

    outcome: Outcome
    sender: str
    detail: str = ""

    @property
    def through(self) -> bool:
        """Whether it may have got through: of a datagram without an answer nobody knows."""
        return self.outcome in (Outcome.ANSWERED, Outcome.SILENT)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and what it holds or listens on."""

    pid: int
    name: str
    what: str


@dataclass(frozen=True, slots=True)
class Flows:
    """What is in the conntrack table: the largest shares, and flows that lead to endpoints that are gone."""

    services: tuple[Share, ...]
    clients: tuple[Share, ...]
    stale: tuple[tuple[ServicePortName | None, ShownFlow], ...]
    total: int


@dataclass(frozen=True, slots=True)
class ReversePath:
    """Reverse path filtering of IPv4: the interfaces where it is strict, ``everywhere`` if conf/all says so.

    ``dropped`` counts packets since the start; ``rules`` are those of policy routing.
    """

    strict: tuple[str, ...]
    everywhere: bool
    dropped: int
    rules: int


@dataclass(frozen=True, slots=True)
class IpvsTable:
    """The connection table of IPVS and its settings: time-outs in seconds."""

    buckets: int
    connections: int
    tcp: int
    tcp_fin: int
    udp: int


@dataclass(frozen=True, slots=True)
class Removal:
    """The commands that delete a rule of anybody, or change a policy, and those that bring it back."""

    commands: tuple[Command, ...]
    undo: tuple[Command, ...]


class Facts(Protocol):
    """All that checks may ask."""

    def cluster(self) -> Cluster: ...

    def source(self) -> tuple[str, ...]:
        """The options that name where the cluster's objects come from, for other commands of kpx."""

    def held(self) -> Held | None: ...

    def mode(self) -> str:
        """iptables, ipvs or nftables; empty where nobody tells and the kernel holds nothing."""

    def rule_sets(self) -> tuple[RuleSet, ...]: ...

    def current(self) -> str:
        """The kind of `RuleSet` that the proxy of this node programs; empty if nobody tells. Never a guess."""

    def configuration(self) -> Configuration:
        """What the proxy is configured to do."""

    def proxies(self) -> tuple[ProxyProcess, ...]: ...

    def restart(self) -> tuple[Command, ...]:
        """The commands that start the node's proxy anew."""

    def status(self) -> Status | None:
        """What the kpx daemon says of itself; None if none answers."""

    def syncs(self) -> Listed: ...

    def drift(self) -> Listed: ...

    def rejected(self) -> Listed: ...

    def get(self, port: int, path: str, address: str = "127.0.0.1") -> Answer:
        """An HTTP answer of this node."""

    def metrics(self) -> Mapping[str, list[tuple[Mapping[str, str], float]]]:
        """The proxy's metrics: samples by name."""

    def clock(self) -> float:
        """The time at which it is looked, in Unix seconds."""

    def setting(self, name: str) -> str:
        """A sysctl, by its path below /proc/sys."""

    def writable(self, name: str) -> bool:
        """Whether a sysctl may be changed from this network namespace."""

    def module(self, name: str) -> bool:
        """Whether a kernel module is loaded, or built in."""

    def text(self, path: str) -> str:
        """A file of /proc or /sys."""

    def cores(self) -> int:
        """The number of the machine's processors."""

    def kernel_release(self) -> tuple[int, int]: ...

    def addresses(self) -> list[InterfaceAddress]: ...

    def route(self, destination: str) -> Route: ...

    def reverse_path(self) -> ReversePath: ...

    def main_address(self, family: Family) -> str:
        """The address that the node itself speaks from to everywhere; empty for none."""

    def bridged(self) -> Mapping[str, Sequence[str]]:
        """The ports of each bridge."""

    def trace(self, target: Target, sender: str) -> Trace: ...

    def connect(self, calls: Sequence[Call]) -> list[Reach]:
        """Try connections, all at once."""

    def pods(self) -> tuple[str, ...]:
        """The addresses of pods that connections can be tried from."""

    def flows(self) -> Flows: ...

    def usage(self) -> Usage: ...

    def softnet_drops(self) -> tuple[int, float]:
        """Packets that the node had no room to queue: in all, and a second."""

    def ipvs(self) -> IpvsTable: ...

    def listeners(self, protocol: str, port: int) -> tuple[Holder, ...]:
        """The processes with a socket that takes what comes for a port, and its address."""

    def lock_holder(self) -> Holder | None:
        """Who holds the xtables lock for longer than a sync may need it."""

    def removal(self, family: Family, hop: Hop) -> Removal | None:
        """How the rule or policy of a hop is taken away; None if it is not found any more."""


def wanted_target(frontend: Frontend, name: str = "") -> Target:
    """The target of a frontend for a trace."""
    return Target(frontend.address or "", frontend.port, frontend.protocol.lower(), name)
