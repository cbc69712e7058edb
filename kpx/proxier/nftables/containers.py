"""The sets and maps that are there whatever Services there are, and the bytes of their keys and data."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.selectors import Selector, daddr, l4proto, numgen_random, th_dport
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.kernel.nft.wire import NfFamily
from kpx.net import packed

# Slots from here on are those of a second list under the same key: the endpoints of this node.
LOCAL_LIST = 32768
MOST_SLOTS = LOCAL_LIST

_PROTOCOLS = {"TCP": b"\x06\0\0\0", "UDP": b"\x11\0\0\0", "SCTP": b"\x84\0\0\0"}
_PADDING = b"\0\0"


def address_key(address: str | None, protocol: str, port: int) -> bytes:
    """The key of a virtual address or, without an address, of a node port: each field padded to 4 bytes."""
    where = _PROTOCOLS[protocol] + port.to_bytes(2, "big") + _PADDING
    return where if address is None else packed(address) + where


def slot_key(key: bytes, slot: int) -> bytes:
    """The key of one slot of a list; a slot number is in the machine's byte order, as ``numgen`` makes it."""
    return key + slot.to_bytes(4, sys.byteorder)


def split_slot_key(key: bytes) -> tuple[bytes, int]:
    """The list's key and the slot in the key of a slot."""
    return key[:-4], int.from_bytes(key[-4:], sys.byteorder)


def endpoint_data(address: str, port: int) -> bytes:
    """An endpoint as the data of a slot."""
    return packed(address) + port.to_bytes(2, "big") + _PADDING


@dataclass(frozen=True, slots=True)
class Containers:
    """The fixed sets and maps of one family.

    What the last two hold follows from the settings; the elements of all others belong to service ports.
    """

    service_ips: Set
    node_ports: Set
    endpoints: Set
    node_port_endpoints: Set
    no_endpoint_services: Set
    no_endpoint_node_ports: Set
    firewall_ips: Set
    cluster_ips: Set
    hairpin: Set
    node_port_ips: Set
    service_cidrs: Set

    def all(self) -> tuple[Set, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

    def itemised(self) -> tuple[Set, ...]:
        """Those whose elements come and go with service ports."""
        return self.all()[:-2]


def key_selectors(family: NfFamily, *, node_port: bool) -> tuple[Selector, ...]:
    """What a packet's key is loaded from: its destination, or only protocol and port for a node port."""
    return (l4proto, th_dport) if node_port else (daddr(family), l4proto, th_dport)


def containers(family: NfFamily) -> Containers:
    """The declarations of one family."""
    address = daddr(family).type
    service = (address, types.inet_proto, types.inet_service)
    node_port = service[1:]
    verdict = (types.verdict,)
    backend = (daddr(family), th_dport)
    slot = numgen_random(2 * MOST_SLOTS)
    return Containers(
        Set("service-ips", service, verdict, comment="virtual addresses, to the chain that serves them"),
        Set("node-ports", node_port, verdict, comment="node ports, to the chain that serves them"),
        Set("endpoints", (*key_selectors(family, node_port=False), slot), backend, counter=True),
        Set("node-port-endpoints", (*key_selectors(family, node_port=True), slot), backend, counter=True),
        Set("no-endpoint-services", service, verdict, comment="virtual addresses that nobody here answers"),
        Set("no-endpoint-node-ports", node_port, verdict, comment="node ports that nobody here answers"),
        Set("firewall-ips", service, verdict, comment="virtual addresses that only some sources may use"),
        Set("cluster-ips", (address,), comment="ClusterIPs in use"),
        Set("hairpin", (address, address), comment="pods of this node, to themselves"),
        Set("nodeport-ips", (address,), comment="addresses that node ports answer on"),
        Set("service-cidrs", (address,), flags=SetFlag.INTERVAL, comment="networks of ClusterIPs"),
    )
