"""A snapshot as a small node would give it, always the same, and a source that gives what it is told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kpx.net import Family
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Masquerade, Scope, ServicePortName, Verdict
from kpx.proxier.published import FamilyState, RejectedObject, SyncRecord
from kpx.tools import services
from kpx.tools.flows import Share, Usage
from kpx.tools.kernel import Port
from kpx.top.cells import service, widths
from kpx.top.entries import of_rules
from kpx.top.reading.counters import compare
from kpx.top.snapshot import (
    Counts,
    Flows,
    Focus,
    NodeFacts,
    Rules,
    ServiceFlows,
    Snapshot,
    Syncs,
    Table,
    Traced,
    TraceWish,
)
from kpx.trace.result import Branch, Ending, Hop, Result, Sender, Trace
from kpx.trace.result import Verdict as TraceVerdict
from kpx.trace.target import Target

WALL = 1_700_000_000.0
ENDED = "2023-11-14T22:13:08.25Z"  # twelve seconds before

WEB = ServicePortName("shop", "web", "http", "TCP")
FRONT = ServicePortName("shop", "front", "https", "TCP")
DNS = ServicePortName("kube-system", "dns", "dns", "UDP")
EMPTY = ServicePortName("shop", "empty", "", "TCP")
LONG = ServicePortName("a-namespace-with-a-long-name", "a-service-whose-name-is-long-as-well", "metrics", "TCP")


def frontend(kind: Kind, address: str | None, port: int, protocol: str, verdict: Verdict = Verdict.FORWARD) -> Frontend:
    return Frontend(kind, address, port, protocol, Scope.CLUSTER, verdict, Masquerade.OFF_CLUSTER)


def endpoints(*last: int, port: int = 8080) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"10.244.21.{one}", port, local=one < 20) for one in last)


def served(port: ServicePortName, frontends: tuple[Frontend, ...], ends: tuple[Endpoint, ...]) -> Port:
    ready = tuple(one for one in ends if one.ready)
    return Family.IPV4, Frontends(port, frontends, ends, ready, (), ready, bool(ready))


PORTS: tuple[Port, ...] = (
    served(WEB, (frontend(Kind.CLUSTER_IP, "10.96.100.1", 80, "TCP"),), endpoints(10, 30)),
    served(
        FRONT,
        (
            frontend(Kind.CLUSTER_IP, "10.96.100.3", 443, "TCP"),
            frontend(Kind.LOAD_BALANCER, "192.0.2.10", 443, "TCP"),
            frontend(Kind.NODE_PORT, None, 30443, "TCP"),
        ),
        (*endpoints(11, 31, 32), Endpoint("10.244.21.33", 8080, ready=False, serving=False)),
    ),
    served(DNS, (frontend(Kind.CLUSTER_IP, "10.96.0.10", 53, "UDP"),), endpoints(12, 32, port=53)),
    served(EMPTY, (frontend(Kind.CLUSTER_IP, "10.96.100.9", 80, "TCP", Verdict.REJECT),), ()),
    served(LONG, (frontend(Kind.CLUSTER_IP, "10.96.100.11", 9090, "TCP"),), endpoints(13, port=9090)),
)

BEFORE: Counts = {
    WEB: {("10.244.21.10", 8080): 400, ("10.244.21.30", 8080): 410},
    FRONT: {("10.244.21.11", 8080): 9_000, ("10.244.21.31", 8080): 9_100, ("10.244.21.32", 8080): 8_900},
    DNS: {("10.244.21.12", 53): 12, ("10.244.21.32", 53): 9},
    EMPTY: {},
    LONG: {("10.244.21.13", 9090): 0},
}
AFTER: Counts = {
    **BEFORE,
    WEB: {("10.244.21.10", 8080): 402, ("10.244.21.30", 8080): 413},
    FRONT: {("10.244.21.11", 8080): 9_120, ("10.244.21.31", 8080): 9_231, ("10.244.21.32", 8080): 9_011},
}

USAGE = Usage(
    entries=12_345,
    limit=262_144,
    per_second=41.5,
    seconds_to_full=6_019.2,
    statistics={"drop": 0, "insert_failed": 17, "early_drop": 0, "search_restart": 3},
    statistics_per_second={"drop": 0.0, "insert_failed": 0.0, "early_drop": 0.0, "search_restart": 0.0},
)

FLOWS = Flows(
    whole=12_345,
    states=(Share("TCP TIME_WAIT", 9_000), Share("TCP ESTABLISHED", 3_300), Share("UDP replied", 45)),
    services=(Share("shop/front:https/TCP", 11_800), Share("shop/web:http/TCP", 500), Share("kube-system/dns/UDP", 45)),
    clients=(Share("203.0.113.10", 11_000), Share("10.244.21.11", 1_345)),
    backends=(Share("10.244.21.31:8080", 4_000), Share("10.244.21.11:8080", 3_900)),
    by_service={
        FRONT: ServiceFlows(11_800, 5_300_000, {("10.244.21.11", 8080): 3_900, ("10.244.21.31", 8080): 4_000}),
        WEB: ServiceFlows(500, 81_000, {("10.244.21.10", 8080): 250, ("10.244.21.30", 8080): 250}),
    },
)


def sync(number: int, reason: str = "", error: str = "", drift: str = "") -> SyncRecord:
    return SyncRecord(
        number=number,
        family=Family.IPV4,
        ended=ENDED,
        full=bool(reason),
        reason=reason,
        seconds=0.0042 * number,
        changed=1,
        service_ports=("shop/web:http",),
        written={"nat": 3, "filter": 1},
        refused={},
        error=error,
        drift=drift,
        repaired=("chain KUBE-SVC-67NZLRHBNDSAWJRO had other rules",) if drift else (),
        phases={"decide": 0.0002, "read": 0.001, "render": 0.0005, "write": 0.0025 * number},
    )


SYNCS = Syncs(
    families=(
        FamilyState(Family.IPV4, 5, ENDED, ENDED),
        FamilyState(Family.IPV6, 0, ENDED, ENDED, error="nft refuses the transaction: EINVAL"),
    ),
    syncs=(
        sync(4, drift="chain KUBE-SVC-67NZLRHBNDSAWJRO in table nat lost a rule, by iptables[9405]"),
        sync(3),
        sync(2, error="the xtables lock is held by calico-felix[77]"),
        sync(1, reason="the first sync"),
    ),
    rejected=(RejectedObject("Service", "shop", "broken", "the port's name holds a quote"),),
)

TRACE = Trace(
    Target("10.96.100.1", 80, "tcp", "shop/web:http"),
    Sender("pod", "10.244.21.11", "pod-a11", "stands for any pod of this node"),
    "10.96.100.1",
    ("iptables-nft",),
    (
        Hop("prerouting", "nat", "PREROUTING", "-j KUBE-SERVICES", Result.MATCHED, "jump KUBE-SERVICES", 5_210),
        Hop(
            "prerouting",
            "nat",
            "KUBE-SERVICES",
            "-d 10.96.100.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-67NZLRHBNDSAWJRO",
            Result.MATCHED,
            "jump KUBE-SVC-67NZLRHBNDSAWJRO",
            810,
        ),
    ),
    tuple(
        Branch(
            0.5,
            False,
            (),
            (
                Hop(
                    "prerouting",
                    "nat",
                    chain,
                    f"-p tcp -j DNAT --to-destination {address}:8080",
                    Result.MATCHED,
                    f"dnat to {address}:8080",
                    packets,
                ),
                Hop("routing", "", "", f"route to {address}", Result.ROUTED, f"out by {interface}"),
            ),
            Ending(
                TraceVerdict.SENT,
                f"it leaves by {interface}",
                address,
                8080,
                "10.244.21.11",
                translated=True,
                interface=interface,
                hook="postrouting",
            ),
        )
        for chain, address, packets, interface in (
            ("KUBE-SEP-AAAAAAAAAAAAAAAA", "10.244.21.10", 402, "pod-a10"),
            ("KUBE-SEP-BBBBBBBBBBBBBBBB", "10.244.21.30", 413, "uplink"),
        )
    ),
)

RULES = Rules(
    WEB,
    (
        "iptables-nft -t nat  [810:48600] -A KUBE-SERVICES -d 10.96.100.1/32 -p tcp -m tcp --dport 80"
        ' -m comment --comment "shop/web:http cluster IP" -j KUBE-SVC-67NZLRHBNDSAWJRO',
        "iptables-nft -t nat  [402:24120] -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -j DNAT"
        " --to-destination 10.244.21.10:8080",
    ),
)


def snapshot() -> Snapshot:
    """The node, all of it read."""
    made = tuple(map(service, services.rows(PORTS, None)))
    counted = compare(BEFORE, AFTER, 1.0)
    return Snapshot(
        wall=WALL,
        node=NodeFacts("node-a", "iptables", "kpx v1.36.2", "daemon"),
        services=made,
        widths=widths(made),
        counted=counted,
        flows=FLOWS,
        table=Table(USAGE, tuple(range(8_000, 12_345, 150))),
        syncs=SYNCS,
        kernel=of_rules("mode iptables", PORTS, counted),
        rules=RULES,
        traced=Traced(
            TraceWish(WEB),
            "10.96.100.1:80/tcp",
            TRACE,
            {("nat", "KUBE-SERVICES", TRACE.hops[1].rule): 5.0},
            ("the endpoint 10.244.21.40:8080 is wanted, and no rule leads to it",),
        ),
    )


class Canned:
    """A source of snapshots that a test gives."""

    interval = 1.0

    def __init__(self, first: Snapshot) -> None:
        self.first = first
        self.looks: list[Focus] = []
        self.stopped = False
        self.deliver: Callable[[Snapshot], None] = lambda _: None

    def start(self, deliver: Callable[[Snapshot], None]) -> None:
        self.deliver = deliver
        deliver(self.first)

    def look(self, focus: Focus) -> None:
        self.looks.append(focus)

    def change_interval(self, factor: float) -> float:
        self.interval *= factor
        return self.interval

    def stop(self) -> None:
        self.stopped = True


def later(found: Snapshot, **changes: object) -> Snapshot:
    """The snapshot after that."""
    return replace(found, wall=found.wall + 1, **changes)  # type: ignore[arg-type]
