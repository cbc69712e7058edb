"""The conntrack table: how full it is, read every time, and whose flows are in it, read when there is time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from kpx.kernel import conntrack, links
from kpx.kernel.conntrack import Flow
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.kernel_metrics import Growth
from kpx.tools.conntrack_command import flows
from kpx.tools.flows import Owners, Tally, usage
from kpx.tools.kernel import Destination, Port
from kpx.top.sampler import FASTEST
from kpx.top.snapshot import Flows, ServiceFlows, Table

_HISTORY = 300
_TOP = 20


class Gauge:
    """How full the table is, over the last minutes."""

    def __init__(self) -> None:
        self._entries: deque[int] = deque(maxlen=_HISTORY)
        self._growth = Growth()
        self._last: tuple[float, dict[str, int]] | None = None
        self._table: Table | None = None

    def read(self, now: float) -> Table:
        """Read it, or what was just read; `now` is in monotonic seconds. Raises `OSError`."""
        if self._table is not None and self._last is not None and now - self._last[0] < FASTEST:
            return self._table
        entries, limit, statistics = conntrack.count(), conntrack.limit(), conntrack.statistics()
        before, counted = self._last or (now, statistics)
        former = self._entries[-1] if self._entries else entries
        self._entries.append(entries)
        self._growth.sample(now, entries)
        found = usage((former, entries), limit, (counted, statistics), max(now - before, 0.001))
        full = self._growth.seconds_to(limit)
        self._last = now, statistics
        usage_now = replace(found, seconds_to_full=None if math.isinf(full) else full)
        self._table = Table(usage_now, tuple(self._entries))
        return self._table


class FlowTable:
    """Whose flows there are."""

    def __init__(self) -> None:
        self._ports: Collection[Port] = ()

    def learn(self, ports: Collection[Port]) -> None:
        """These are the service ports now."""
        self._ports = ports

    def read(self, listed: ServicePortName | None, most: int) -> Flows:
        """Read the whole table; `most` flows of the service port `listed` are kept as they are. Raises `OSError`."""
        addresses = {one.address for one in links.addresses() if one.interface != DEVICE}
        owners = Owners(self._ports, addresses)
        with Socket(NETLINK_NETFILTER) as netlink:
            return sum_up(flows(netlink), owners, listed, most)


def sum_up(found: Iterable[Flow], owners: Owners, listed: ServicePortName | None = None, most: int = 0) -> Flows:
    """Flows, counted by whom they belong to. Pure."""
    tally = Tally(owners)
    numbers: dict[ServicePortName, int] = {}
    octets: dict[ServicePortName, int] = {}
    backends: dict[ServicePortName, dict[Destination, int]] = {}
    sample: list[Flow] = []
    whole = 0
    for flow in found:
        whole += 1
        owner = tally.add(flow)
        if owner is None:
            continue
        numbers[owner] = numbers.get(owner, 0) + 1
        if flow.sent and flow.received:
            octets[owner] = octets.get(owner, 0) + flow.sent.bytes + flow.received.bytes
        if flow.translated:
            reached = backends.setdefault(owner, {})
            backend = flow.reply.source, flow.reply.source_port
            reached[backend] = reached.get(backend, 0) + 1
        if owner == listed and len(sample) < most:
            sample.append(flow)
    return Flows(
        whole,
        tally.states(),
        tally.services(_TOP),
        tally.clients(_TOP),
        tally.backends(_TOP),
        {port: ServiceFlows(number, octets.get(port), backends.get(port, {})) for port, number in numbers.items()},
        listed,
        tuple(sample),
    )
