"""The table of kpx in mode nftables: an element for each endpoint of an address, which counts its connections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.errors import GenerationChanged
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.nft.expressions import Verdict as NftVerdict
from kpx.kernel.nft.sets import unpack
from kpx.kernel.nft.wire import TableName
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Kind, ServicePortName, Verdict
from kpx.proxier.nftables import names
from kpx.proxier.nftables.containers import Containers, address_key, containers, endpoint_data, split_slot_key
from kpx.proxier.nftables.settings import Settings
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Destination, Finds, Found, Port, port_name

# What the names of the chains of endpoints begin with; only Services with session affinity have such chains.
ENDPOINT_CHAIN = "endpoint-"
_ENDPOINT_NAME = re.compile(r"endpoint-[A-Z2-7]{8}-([^/]+)/([^/]+)/([^/]+)/(.*)__([^/]+)/(\d+)")


@dataclass(slots=True)
class _Table:
    """One family's table."""

    containers: Containers
    forwards: list[Element] = field(default_factory=list)
    refusals: list[Element] = field(default_factory=list)
    cluster_ips: set[bytes] = field(default_factory=set)
    # By the key of a frontend, and by chain where a Service has session affinity: what was counted.
    slots: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    chains: dict[str, int] = field(default_factory=dict)


class NftablesHeld:
    """The `Held` of kpx's own tables."""

    program = "kpx, mode nftables"
    counts = True

    def __init__(self, tables: Mapping[Family, _Table]) -> None:
        self._tables = tables

    def connections(self, family: Family, frontends: Frontends) -> Mapping[Destination, int]:
        table = self._tables.get(family)
        if table is None:
            return {}
        keys = [address_key(one.address, one.protocol, one.port) for one in frontends.frontends]
        lists = [table.slots[key] for key in keys if key in table.slots]
        found: dict[Destination, int] = {}
        for one in frontends.reachable:
            data = endpoint_data(one.ip, one.port)
            counts = [counted[data] for counted in lists if data in counted]
            if table.chains:
                counts.append(table.chains.get(ENDPOINT_CHAIN + names.of_endpoint(frontends.port, one), 0))
            found[one.ip, one.port] = sum(counts)
        return found

    def ports(self) -> list[Port]:
        finds = Finds()
        for family, table in self._tables.items():
            for element in table.forwards:
                found, key = _answering(finds, family, table, element, Verdict.FORWARD)
                for data in table.slots.get(key, ()):
                    address, port = unpack(table.containers.endpoints.data, data)
                    found.leads(str(address), int(port))
            for element in table.refusals:
                rejects = isinstance(element.data, NftVerdict) and element.data.chain
                _answering(finds, family, table, element, Verdict.REJECT if rejects else Verdict.DROP)
            for chain in table.chains:
                if match := _ENDPOINT_NAME.fullmatch(chain):
                    namespace, name, protocol, port_, address, number = match.groups()
                    named = ServicePortName(namespace, name, port_, protocol.upper())
                    separator = ":" if family is Family.IPV6 else "."
                    finds.of(family, named).leads(address.replace(".", separator), int(number))
        return finds.ports()


def _answering(finds: Finds, family: Family, table: _Table, element: Element, verdict: Verdict) -> tuple[Found, bytes]:
    """The service port that an element of a map of addresses or node ports belongs to, with this address of its."""
    node_port = len(element.key) == len(address_key(None, "TCP", 0))
    kind = (table.containers.node_ports if node_port else table.containers.service_ips).key
    *address, protocol, port = unpack(kind, element.key)
    found = finds.of(family, port_name(element.comment, str(protocol)))
    if node_port:
        found.answers(Kind.NODE_PORT, None, int(port), verdict)
    else:
        cluster = element.key[: family.bits // 8] in table.cluster_ips
        found.answers(Kind.CLUSTER_IP if cluster else Kind.EXTERNAL_IP, str(address[0]), int(port), verdict)
    return found, element.key


def read() -> NftablesHeld | None:
    """The tables of kpx; None if there is none. Raises `ToolError` and `OSError`."""
    try:
        with Nft() as nft:
            return read_from(nft)
    except GenerationChanged as error:
        raise ToolError(str(error)) from error


def read_from(nft: Nft) -> NftablesHeld | None:
    """The tables of kpx in a ruleset."""
    there = {entry.table for entry in nft.tables()}
    wanted = {family: Settings(family).table for family in Family}
    found = {family: _read(nft, name) for family, name in wanted.items() if name in there}
    return NftablesHeld(found) if found else None


def _read(nft: Nft, name: TableName) -> _Table:
    sets = containers(name.family)
    table = _Table(sets)
    for one in (sets.service_ips, sets.node_ports):
        table.forwards += nft.elements(name, one.name)
    for one in (sets.no_endpoint_services, sets.no_endpoint_node_ports):
        table.refusals += nft.elements(name, one.name)
    table.cluster_ips = {element.key for element in nft.elements(name, sets.cluster_ips.name)}
    for one in (sets.endpoints, sets.node_port_endpoints):
        for element in nft.elements(name, one.name):
            key, _ = split_slot_key(element.key)
            if isinstance(element.data, bytes):
                counted = table.slots.setdefault(key, {})
                packets = element.counter.packets if element.counter else 0
                counted[element.data] = counted.get(element.data, 0) + packets
    if any(entry.value.name.startswith(ENDPOINT_CHAIN) for entry in nft.chains(name)):
        table.chains = dict(_counted_chains(nft, name))
    return table


def _counted_chains(nft: Nft, name: TableName) -> Iterator[tuple[str, int]]:
    for entry in nft.rules(name):
        if entry.value.chain.startswith(ENDPOINT_CHAIN):
            for expression in entry.value.expressions:
                if isinstance(expression, Counter):
                    yield entry.value.chain, expression.packets
