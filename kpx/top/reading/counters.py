"""The new connections that the kernel counted for every endpoint, read again and again.

In kpx's mode nftables only the counters are read; in other modes the rules with them, as `kpx services` does. Those
of some Services alone are read in every mode but that of the legacy iptables, which gives a table as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.nft.sets import unpack
from kpx.kernel.nft.wire import TableName
from kpx.net import Family
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.nftables import names
from kpx.proxier.nftables.containers import LOCAL_LIST, Containers, address_key, containers, slot_key, split_slot_key
from kpx.proxier.nftables.settings import NF_FAMILIES, Settings
from kpx.tools import held, in_iptables, in_ipvs, in_nftables
from kpx.tools.kernel import Destination, Held, Port
from kpx.top.snapshot import Counted, Counts

_Found = dict[ServicePortName, dict[Destination, int]]
_ALONE: Mapping[str, Callable[[Iterable[Port]], Held | None]] = {
    in_iptables.IptablesHeld.program: in_iptables.read_alone,
    in_ipvs.IpvsHeld.program: in_ipvs.read_alone,
}


class Counters:
    """Reads the counters of the service ports that it was last told of."""

    def __init__(self) -> None:
        self._ports: Sequence[Port] = ()
        self._by_port: dict[ServicePortName, list[Port]] = {}
        self._owners: dict[Family, dict[bytes, ServicePortName]] = {}
        self._affine: list[Port] = []
        self._destinations: dict[bytes, Destination] = {}
        self.program = ""

    def learn(self, ports: Sequence[Port]) -> None:
        """These are the service ports now."""
        self._ports = ports
        self._by_port = {}
        self._owners = {family: {} for family in Family}
        for family, one in ports:
            self._by_port.setdefault(one.port, []).append((family, one))
            owners = self._owners[family]
            for frontend in one.frontends:
                owners[address_key(frontend.address, frontend.protocol, frontend.port)] = one.port
        self._affine = [(family, one) for family, one in ports if one.affinity]

    def read(self, mode: str) -> Counts | None:
        """The counts now; None where the kernel has no rules, or does not count. Raises `ToolError`, `OSError`."""
        if mode in ("", "nftables"):
            with Nft() as nft:
                wanted = {Settings(family).table: family for family in Family}
                there = {entry.table for entry in nft.tables()}.intersection(wanted)
                if there:
                    self.program = in_nftables.NftablesHeld.program
                    return self._of_tables(nft, {table: wanted[table] for table in there})
        found = held.read(mode)
        self.program = found.program if found else ""
        if found is None or not found.counts:
            return None
        counts: _Found = {}
        self._add_held(counts, found, self._ports)
        return counts

    @staticmethod
    def _add_held(counts: _Found, found: Held, ports: Iterable[Port]) -> None:
        for family, one in ports:
            counts.setdefault(one.port, {}).update(found.connections(family, one))

    def read_some(self, wanted: Sequence[ServicePortName]) -> Counts:
        """The counts of these service ports alone, where they can be had alone; none where not. Raises `OSError`."""
        ports = [one for port in wanted for one in self._by_port.get(port, ())]
        counts: _Found = {}
        if not ports:  # most pages show none
            return counts
        if self.program == in_nftables.NftablesHeld.program:
            with Nft() as nft:
                for family, one in ports:
                    self._add_one(counts, nft, family, one)
        elif (read := _ALONE.get(self.program)) and (found := read(ports)):
            self._add_held(counts, found, ports)
        return counts

    def _add_one(self, counts: _Found, nft: Nft, family: Family, one: Frontends) -> None:
        table, sets = Settings(family).table, containers(NF_FAMILIES[family])
        # A list that is the only one begins with slot 0; those that are not there are passed over.
        slots = [*range(max(len(one.cluster), len(one.local))), *(LOCAL_LIST + at for at in range(len(one.local)))]
        counts.setdefault(one.port, {})
        for map_, node_port in ((sets.endpoints, False), (sets.node_port_endpoints, True)):
            keys = [
                slot_key(address_key(frontend.address, frontend.protocol, frontend.port), slot)
                for frontend in one.frontends
                if (frontend.address is None) is node_port
                for slot in slots
            ]
            self._add(counts, family, sets, nft.counters_of(table, map_.name, keys))
        if one.affinity:
            self._add_affine(counts, nft, table, one)

    def _of_tables(self, nft: Nft, tables: Mapping[TableName, Family]) -> Counts:
        counts: _Found = {}
        for table, family in tables.items():
            sets = containers(table.family)
            for one in (sets.endpoints, sets.node_port_endpoints):
                self._add(counts, family, sets, nft.counters(table, one.name))
        for family, affine in self._affine:
            self._add_affine(counts, nft, Settings(family).table, affine)
        return counts

    def _add(
        self, counts: _Found, family: Family, sets: Containers, elements: Iterable[tuple[bytes, bytes, int]]
    ) -> None:
        owners, destinations = self._owners[family], self._destinations
        for slot, data, packets in elements:
            owner = owners.get(split_slot_key(slot)[0])
            if owner is None:
                continue
            destination = destinations.get(data)
            if destination is None:
                address, port = unpack(sets.endpoints.data, data)
                destination = destinations[data] = (str(address), int(port))
            of_owner = counts.setdefault(owner, {})
            of_owner[destination] = of_owner.get(destination, 0) + packets

    @staticmethod
    def _add_affine(counts: _Found, nft: Nft, table: TableName, one: Frontends) -> None:
        """The endpoints of a Service with session affinity have chains of their own, whose rules count."""
        of_owner = counts.setdefault(one.port, {})
        for endpoint in one.reachable:
            for rule in nft.rules(table, in_nftables.ENDPOINT_CHAIN + names.of_endpoint(one.port, endpoint)):
                for expression in rule.value.expressions:
                    if isinstance(expression, Counter):
                        at = endpoint.ip, endpoint.port
                        of_owner[at] = of_owner.get(at, 0) + expression.packets


def compare(
    before: Counts | None, after: Counts, seconds: float, fresher: Mapping[ServicePortName, float] | None = None
) -> Counted:
    """What was counted by the later of two readings, and what came a second since the earlier one. Pure.

    `fresher` are the seconds of those that were read in between.
    """
    if before is None:
        return Counted(after, {port: sum(some.values()) for port, some in after.items()}, {}, {}, 0.0)
    totals: dict[ServicePortName, int] = {}
    rates: dict[ServicePortName, float] = {}
    endpoint_rates: dict[ServicePortName, Mapping[Destination, float]] = {}
    for port, counts in after.items():
        totals[port] = sum(counts.values())
        known = before.get(port)
        if counts == known:
            continue
        more = dict(_more(known or {}, counts))
        if more:
            passed = fresher.get(port, seconds) if fresher else seconds
            endpoint_rates[port] = {destination: count / passed for destination, count in more.items()}
            rates[port] = sum(more.values()) / passed
    return Counted(after, totals, rates, endpoint_rates, seconds)


def refreshed(counted: Counted, some: Counts, seconds: Mapping[ServicePortName, float]) -> Counted:
    """What was counted, with what some of the service ports have counted since, each in so many seconds. Pure."""
    news = compare(counted.counts, some, 1.0, seconds)
    return Counted(
        {**counted.counts, **some},
        {**counted.totals, **news.totals},
        {**{port: rate for port, rate in counted.rates.items() if port not in some}, **news.rates},
        {
            **{port: rates for port, rates in counted.endpoint_rates.items() if port not in some},
            **news.endpoint_rates,
        },
        counted.every,
    )


def _more(known: Mapping[Destination, int], counts: Mapping[Destination, int]) -> Iterator[tuple[Destination, int]]:
    """What came to each endpoint. A count that fell tells nothing of that: a counter began anew, or is gone."""
    for destination, count in counts.items():
        if (more := count - known.get(destination, 0)) > 0:
            yield destination, more
