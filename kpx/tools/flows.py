"""Flows of the conntrack table, told in the words of Services. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import msgspec

from kpx.kernel.conntrack import SEEN_REPLY, TCP_STATES, Flow
from kpx.net import Family, family_of, join_port
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.published import API_VERSION
from kpx.proxier.stale_flows import Serving
from kpx.tools.kernel import Port

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_TCP = 6
_SYN_SENT = TCP_STATES.index("SYN_SENT")

T = TypeVar("T")


class _Shown(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is shown as JSON (docs/json.md)."""


class ShownFlow(_Shown, frozen=True):
    """A flow: client -> address -> backend; ``source_at_backend`` is as whom the backend sees the client."""

    protocol: str
    state: str
    service: str
    client: str
    address: str
    backend: str
    source_at_backend: str
    timeout: int

    def __str__(self) -> str:
        via = "" if self.backend == self.address else f" -> {self.backend}"
        seen = f" (as {self.source_at_backend})" if self.source_at_backend != self.client else ""
        named = f"  {self.service}" if self.service else ""
        return f"{self.protocol} {self.state:<11} {self.client} -> {self.address}{via}{seen}  {self.timeout}s{named}"


class Share(_Shown, frozen=True):
    """How many flows are of one service port, client, backend or state."""

    name: str
    flows: int


class Usage(_Shown, frozen=True):
    """How full the table is. ``seconds_to_full`` is None while it does not grow; ``limit`` is 0 where there is none."""

    entries: int
    limit: int
    per_second: float
    seconds_to_full: float | None
    statistics: dict[str, int]
    statistics_per_second: dict[str, float]


class Report(_Shown, frozen=True):
    """What `kpx conntrack` shows. ``flows`` are listed for ``--service`` and ``--stale`` only."""

    source: str
    node: str
    mode: str
    notes: tuple[str, ...]
    usage: Usage
    states: tuple[Share, ...] = ()
    services: tuple[Share, ...] = ()
    clients: tuple[Share, ...] = ()
    backends: tuple[Share, ...] = ()
    flows: tuple[ShownFlow, ...] | None = None
    deleted: int | None = None
    api_version: str = API_VERSION


class Owners:
    """Whose address a flow was sent to."""

    def __init__(self, ports: Iterable[Port], node_addresses: Collection[str]) -> None:
        self._node_addresses = node_addresses
        self._by_address: dict[tuple[str, str, int], ServicePortName] = {}
        self._by_node_port: dict[tuple[Family, str, int], ServicePortName] = {}
        for family, one in ports:
            for frontend in one.frontends:
                if frontend.address is None:
                    self._by_node_port[family, frontend.protocol, frontend.port] = one.port
                else:
                    self._by_address[frontend.protocol, frontend.address, frontend.port] = one.port

    def of(self, flow: Flow) -> ServicePortName | None:
        """The service port that a flow was sent to, or None."""
        protocol = _PROTOCOLS.get(flow.protocol, "")
        address, port = flow.original.destination, flow.original.destination_port
        owner = self._by_address.get((protocol, address, port))
        if owner is None and self._by_node_port and address in self._node_addresses:
            return self._by_node_port.get((family_of(address), protocol, port))
        return owner


class Stale:
    """Which flows lead, or would lead, where nobody answers: to endpoints that are gone.

    Of UDP all such flows, as the daemon removes them. Of TCP those that wait for a first answer: a connection that was
    answered ends by itself, and is its endpoint's own affair.
    """

    def __init__(self, ports: Collection[Port], node_addresses: Collection[str]) -> None:
        frontends = [one for _, one in ports]
        self._udp = Serving(frontends, (), node_addresses)
        self._tcp = Serving(frontends, (), node_addresses, "TCP")

    def __call__(self, flow: Flow) -> bool:
        if flow.protocol == _TCP:
            return flow.tcp_state == _SYN_SENT and self._tcp.stale(flow)
        return self._udp.stale(flow)


class Tally:
    """Counts flows as they pass, so that a table of any size takes little memory."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._states: Counter[str] = Counter()
        self._services: Counter[ServicePortName] = Counter()
        self._clients: Counter[str] = Counter()
        self._backends: Counter[tuple[str, int]] = Counter()

    def add(self, flow: Flow) -> ServicePortName | None:
        """Count a flow; returns whose it is."""
        self._states[f"{_PROTOCOLS.get(flow.protocol, str(flow.protocol))} {state(flow)}"] += 1
        self._clients[flow.original.source] += 1
        owner = self._owners.of(flow)
        if owner is not None:
            self._services[owner] += 1
            if flow.translated:
                self._backends[flow.reply.source, flow.reply.source_port] += 1
        return owner

    def states(self) -> tuple[Share, ...]:
        return _shares(self._states, None, str)

    def services(self, top: int) -> tuple[Share, ...]:
        return _shares(self._services, top, lambda port: f"{port}/{port.protocol}")

    def clients(self, top: int) -> tuple[Share, ...]:
        return _shares(self._clients, top, str)

    def backends(self, top: int) -> tuple[Share, ...]:
        return _shares(self._backends, top, lambda one: join_port(*one))


def _shares(counted: Counter[T], top: int | None, name: Callable[[T], str]) -> tuple[Share, ...]:
    return tuple(Share(name(one), flows) for one, flows in counted.most_common(top))


def state(flow: Flow) -> str:
    """TCP's state, or whether anybody has answered."""
    if flow.protocol == _TCP:
        return TCP_STATES[flow.tcp_state] if flow.tcp_state < len(TCP_STATES) else str(flow.tcp_state)
    return "replied" if flow.status & SEEN_REPLY else "unreplied"


def shown(flow: Flow, owner: ServicePortName | None) -> ShownFlow:
    """A flow as it is listed."""
    original, reply = flow.original, flow.reply
    return ShownFlow(
        _PROTOCOLS.get(flow.protocol, str(flow.protocol)),
        state(flow),
        str(owner or ""),
        join_port(original.source, original.source_port),
        join_port(original.destination, original.destination_port),
        join_port(reply.source, reply.source_port),
        join_port(reply.destination, reply.destination_port),
        flow.timeout,
    )


def usage(
    entries: tuple[int, int], limit: int, statistics: tuple[dict[str, int], dict[str, int]], seconds: float
) -> Usage:
    """How full the table is, from two readings, `seconds` apart."""
    per_second = (entries[1] - entries[0]) / seconds
    before, after = statistics
    return Usage(
        entries=entries[1],
        limit=limit,
        per_second=round(per_second, 2),
        seconds_to_full=round((limit - entries[1]) / per_second, 1) if per_second > 0 and limit else None,
        statistics=after,
        statistics_per_second={name: round((after[name] - before.get(name, 0)) / seconds, 2) for name in after},
    )


# The report as text.

_TOLD = {
    "drop": "new connections dropped, the table being full or a packet unfit",
    "insert_failed": "entries not made, since another packet of the same flow was first",
    "early_drop": "entries given up early to make room",
    "search_restart": "lookups begun anew, since the table was being resized",
}


def usage_text(found: Usage) -> str:
    """A few lines on how full the table is."""
    of = f" of {found.limit} ({100 * found.entries / found.limit:.1f} %)" if found.limit else ", without a limit"
    lines = [f"entries         {found.entries}{of}, {found.per_second:+g} a second{_full(found.seconds_to_full)}"]
    for name, meaning in _TOLD.items():
        if name in found.statistics:
            rate = found.statistics_per_second[name]
            lines.append(f"{name:<14}  {found.statistics[name]}, {rate:+g} a second: {meaning}")
    return "\n".join(lines)


def _full(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f", full in {seconds / size:.1f} {unit} at this rate"
    return f", full in {seconds:.0f} s at this rate"


def shares_text(title: str, shares: Iterable[Share]) -> str:
    """A heading, and a line for each share."""
    lines = [f"{one.flows:>9}  {one.name}" for one in shares]
    return "\n".join([title, *(lines or ["        -"])])
