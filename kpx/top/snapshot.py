"""What was read of the node at one time. Frozen: the reading thread makes it, the screens draw it, none changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kpx.kernel.conntrack import Flow
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.published import FamilyState, LostAddress, RejectedObject, SyncRecord
from kpx.tables.ipvs.text import View
from kpx.tools.flows import Share, Usage
from kpx.tools.kernel import Destination
from kpx.tools.services import Row
from kpx.trace.live.flow import Flow as LiveFlow
from kpx.trace.result import Trace

if TYPE_CHECKING:
    from kpx.doctor.finding import Finding

# The new connections of each endpoint since its rules were made.
Counts = Mapping[ServicePortName, Mapping[Destination, int]]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The node, and who tells of it. ``source`` is as in `tools.cluster`; ``proxier`` is program and version."""

    name: str = ""
    mode: str = ""
    proxier: str = ""
    source: str = ""


class Cells(NamedTuple):
    """What the table shows of a service port that does not change from one reading to the next."""

    namespace: str
    name: str
    type: str
    address: str
    ports: str
    ready: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service port: its row of `kpx services`, without counts; and the text in which a filter searches."""

    port: ServicePortName
    row: Row
    cells: Cells
    search: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What the kernel counted: new connections, all and a second. What did not grow has no rate.

    ``every`` is the time between the two last readings in seconds, 0 after the first.
    """

    counts: Counts
    totals: Mapping[ServicePortName, int]
    rates: Mapping[ServicePortName, float]
    endpoint_rates: Mapping[ServicePortName, Mapping[Destination, float]]
    every: float


@dataclass(frozen=True, slots=True)
class ServiceFlows:
    """The flows of one service port that conntrack has now; bytes are None where it does not account for them."""

    flows: int
    octets: int | None
    backends: Mapping[Destination, int]


@dataclass(frozen=True, slots=True)
class Flows:
    """The conntrack table summed up; ``whole`` is how many flows it has, ``sample`` some of ``listed``."""

    whole: int
    states: tuple[Share, ...]
    services: tuple[Share, ...]
    clients: tuple[Share, ...]
    backends: tuple[Share, ...]
    by_service: Mapping[ServicePortName, ServiceFlows]
    listed: ServicePortName | None = None
    sample: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class Differences:
    """What the kernel holds otherwise than the cluster wants it, in words: of a service port, and of all together."""

    by_port: Mapping[ServicePortName, tuple[str, ...]] = field(default_factory=dict)
    of_all: tuple[str, ...] = ()


NO_DIFFERENCES = Differences()


@dataclass(frozen=True, slots=True)
class Table:
    """How full the conntrack table is: now, and over the last minutes (one number of entries a reading)."""

    usage: Usage
    history: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Syncs:
    """What the daemon tells of its syncs, the newest first."""

    families: tuple[FamilyState, ...] = ()
    syncs: tuple[SyncRecord, ...] = ()
    rejected: tuple[RejectedObject, ...] = ()
    conflicts: tuple[LostAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class StockSyncs:
    """What a kube-proxy's metrics tell of its syncs; times are Unix seconds, 0 for never.

    ``failures`` are those since it started, ``new_failures`` those since it is watched.
    """

    version: str
    last: float
    queued: float
    syncs: int
    mean_seconds: float
    failures: int
    new_failures: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one service port as the kernel holds them, line by line; or why they cannot be told."""

    port: ServicePortName
    lines: tuple[str, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the kernel's table: a virtual address, or where it leads to. ``key`` tells it from the others."""

    key: tuple[str, ...]
    address: str
    name: str = ""
    does: str = ""
    count: int | None = None
    rate: float | None = None
    port: ServicePortName | None = None


@dataclass(frozen=True, slots=True)
class RulesTable:
    """The service ports as the kernel holds them, whoever wants what; ``titles`` are ipvsadm's, none for rules."""

    program: str
    entries: tuple[Entry, ...]
    titles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceWish:
    """A static trace that is asked for: to which address of the service port, by number, and from where (--from)."""

    port: ServicePortName
    address: int = 0
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace, and the packets a second of its hops' counters by (table, chain, rule); or why there is none.

    ``wrong`` is what is not as the cluster wants it.
    """

    wish: TraceWish
    target: str
    trace: Trace | None
    rates: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a live trace has seen: the last flows, the newest first, and how many it was in all.

    ``changes`` are what it has changed in the kernel until its end, ``notes`` what it cannot tell, ``error`` why there
    is nothing.
    """

    flows: tuple[LiveFlow, ...] = ()
    seen: int = 0
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """What the runbooks have found so far; what it is ``doing``, empty at its end; and what became of a fix."""

    findings: tuple[Finding, ...] = ()
    doing: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it, at ``wall`` (Unix seconds). What could not be read is None; ``faults`` say why, in a sentence each.

    ``widths`` are those of the widest of each of the services' cells.
    """

    wall: float
    node: NodeFacts = NodeFacts()
    services: tuple[Service, ...] = ()
    widths: tuple[int, ...] = ()
    counted: Counted | None = None
    flows: Flows | None = None
    differences: Differences = NO_DIFFERENCES
    table: Table | None = None
    syncs: Syncs | None = None
    stock: StockSyncs | None = None
    kernel: RulesTable | None = None
    rules: Rules | None = None
    traced: Traced | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Focus:
    """What is on the screen: only that is read for which somebody looks.

    ``visible`` are the service ports in sight: they are counted every time, however many there are in all. Others in
    sight are no other focus.
    """

    page: str = "services"
    view: View = View.SERVERS
    rules: ServicePortName | None = None
    flows: ServicePortName | None = None
    trace: TraceWish | None = None
    visible: tuple[ServicePortName, ...] = field(default=(), compare=False)
