"""The tables of a kube-proxy in mode nftables: names are in those of its chains; it counts no connections."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.expressions import Lookup
from kpx.kernel.nft.expressions import Verdict as NftVerdict
from kpx.kernel.nft.sets import unpack
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Kind, ServicePortName, Verdict
from kpx.proxier.nftables.containers import containers
from kpx.tools.kernel import Destination, Finds, Port

_TABLES = {
    Family.IPV4: TableName(NfFamily.IP, "kube-proxy"),
    Family.IPV6: TableName(NfFamily.IP6, "kube-proxy"),
}
_SERVICE_NAME = re.compile(r"([a-z]+)-[A-Z2-7]{8}-([^/]+)/([^/]+)/([^/]+)/([^/]*)")
_CHOOSING = ("service", "local")
_ENDPOINT_NAME = re.compile(r"endpoint-[A-Z2-7]{8}-([^/]+)/([^/]+)/([^/]+)/(.*)__([^/]+)/(\d+)")


class StockNftablesHeld:
    """The `Held` of kube-proxy's tables."""

    program = "kube-proxy, mode nftables"
    counts = False

    def __init__(self, ports: list[Port]) -> None:
        self._ports = ports

    def connections(self, family: Family, frontends: Frontends) -> Mapping[Destination, int]:
        return {}

    def ports(self) -> list[Port]:
        return self._ports


def read() -> StockNftablesHeld | None:
    """The tables of kube-proxy; None if there is none."""
    with Nft() as nft:
        return read_from(nft)


def read_from(nft: Nft) -> StockNftablesHeld | None:
    """The tables of kube-proxy in a ruleset."""
    finds = Finds()
    there = {entry.table for entry in nft.tables()}.intersection(_TABLES.values())
    for family, table in _TABLES.items():
        if table in there:
            _read(nft, family, table, finds)
    return StockNftablesHeld(finds.ports()) if there else None


def _read(nft: Nft, family: Family, table: TableName, finds: Finds) -> None:
    sets = containers(table.family)
    cluster_ips = {element.key for element in nft.elements(table, "cluster-ips")}
    for element in nft.elements(table, "service-ips"):
        match = isinstance(element.data, NftVerdict) and _SERVICE_NAME.fullmatch(element.data.chain)
        if match:
            _, namespace, name, _, port = match.groups()
            address, protocol, number = unpack(sets.service_ips.key, element.key)
            found = finds.of(family, ServicePortName(namespace, name, port, str(protocol).upper()))
            kind = Kind.CLUSTER_IP if element.key[: family.bits // 8] in cluster_ips else Kind.EXTERNAL_IP
            found.answers(kind, str(address), int(number), Verdict.FORWARD)
    for element in nft.elements(table, "service-nodeports"):
        match = isinstance(element.data, NftVerdict) and _SERVICE_NAME.fullmatch(element.data.chain)
        if match:
            _, namespace, name, _, port = match.groups()
            protocol, number = unpack(sets.node_ports.key, element.key)
            found = finds.of(family, ServicePortName(namespace, name, port, str(protocol).upper()))
            found.answers(Kind.NODE_PORT, None, int(number))
    for entry in nft.chains(table):
        if match := _ENDPOINT_NAME.fullmatch(entry.value.name):
            namespace, name, protocol, port, address, number = match.groups()
            separator = ":" if family is Family.IPV6 else "."
            found = finds.of(family, ServicePortName(namespace, name, port, protocol.upper()))
            found.leads(address.replace(".", separator), int(number))
    _read_choices(nft, family, table, finds)


def _read_choices(nft: Nft, family: Family, table: TableName, finds: Finds) -> None:
    """The endpoints of Services without session affinity: each chain chooses among them by a map without a name."""
    data = containers(table.family).endpoints.data
    for entry in nft.rules(table):
        match = _SERVICE_NAME.fullmatch(entry.value.chain)
        if match is None or match[1] not in _CHOOSING:
            continue
        _, namespace, name, protocol, port = match.groups()
        for lookup in (one for one in entry.value.expressions if isinstance(one, Lookup) and one.target is not None):
            found = finds.of(family, ServicePortName(namespace, name, port, protocol.upper()))
            for element in nft.elements(table, lookup.set):
                if isinstance(element.data, bytes):
                    address, number = unpack(data, element.data)
                    found.leads(str(address), int(number))
