"""A service dataplane of maps in small, with one of everything: what the tests write, read back and send packets to."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Verdict, VerdictCode
from kpx.kernel.nft.intervals import interval_elements, pack_range
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Rule, Table
from kpx.kernel.nft.rules import (
    accept,
    among,
    between,
    counter,
    dnat,
    dnat_to,
    drop,
    eq,
    goto,
    has,
    jump,
    leave,
    limit,
    map_to,
    mark_or,
    mark_xor,
    masquerade,
    ne,
    not_among,
    outside,
    reject,
    rule,
    update,
    vmap,
)
from kpx.kernel.nft.selectors import (
    ct_state,
    ct_status,
    daddr,
    fib_daddr_type,
    iifname,
    l4proto,
    meta_mark,
    numgen_random,
    saddr,
    th_dport,
)
from kpx.kernel.nft.sets import Set, SetFlag, pack
from kpx.kernel.nft.transaction import Elements, Operation, Transaction, add
from kpx.kernel.nft.wire import NfFamily, TableName

MASQUERADE = 0x4000
LOCAL_LIST = 32768  # the offset of a second list of backends under the same key


@dataclass(frozen=True)
class Addresses:
    """The addresses of one family that the skeleton speaks of."""

    vip: str
    backends: tuple[str, str]
    pods: str
    clients: str
    loopback: str


ADDRESSES = {
    NfFamily.IP: Addresses("10.96.0.1", ("10.42.0.1", "10.42.0.2"), "10.42.0.0/16", "192.0.2.0/24", "127.0.0.0/8"),
    NfFamily.IP6: Addresses("fd00:96::1", ("fd00:42::1", "fd00:42::2"), "fd00:42::/64", "2001:db8::/32", "::1"),
}


class Skeleton:
    """Its objects in one family; `transaction` makes them all, one service with two backends included."""

    def __init__(self, family: NfFamily) -> None:
        self.family = family
        self.table = TableName(family, "kpx")
        self.addresses = ADDRESSES[family]
        address = daddr(family).type
        self.key = (daddr(family), l4proto, th_dport)
        self.services = Set("service-ips", self.key, (types.verdict,), comment="virtual addresses")
        self.endpoints = Set("endpoints", (*self.key, numgen_random(65536)), (daddr(family), th_dport), counter=True)
        self.node_ports = Set("node-ports", (types.inet_proto, types.inet_service), (types.verdict,))
        self.hairpin = Set("hairpin", (address, address))
        self.cluster_ips = Set("cluster-ips", (address,), comment="all virtual addresses")
        self.ranges = Set(
            "source-ranges", (address, types.inet_proto, types.inet_service, address), flags=SetFlag.INTERVAL
        )
        self.networks = Set("networks", (address,), flags=SetFlag.INTERVAL)
        self.clients = Set(
            "clients", (address,), flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT, timeout=10_800_000, size=65535
        )
        self.sets = (
            self.services,
            self.endpoints,
            self.node_ports,
            self.hairpin,
            self.cluster_ips,
            self.ranges,
            self.networks,
            self.clients,
        )
        self.chains = (
            Chain("services"),
            Chain("masquerading"),
            Chain("lb-2", comment="two backends"),
            Chain("odds"),
            Chain("nat-prerouting", Hook("nat", HookPoint.PREROUTING, -99)),
            Chain("nat-output", Hook("nat", HookPoint.OUTPUT, -99)),
            Chain("nat-postrouting", Hook("nat", HookPoint.POSTROUTING, 101)),
            Chain("filter-forward", Hook("filter", HookPoint.FORWARD, 0)),
        )

    @property
    def rules(self) -> tuple[Rule, ...]:
        family, source, destination = self.family, saddr(self.family), daddr(self.family)
        return (
            rule("nat-prerouting", jump("services")),
            rule("nat-output", jump("services")),
            rule("nat-postrouting", jump("masquerading")),
            rule(
                "services",
                *(destination, among("cluster-ips"), source, ne(self.addresses.pods), mark_or(MASQUERADE)),
                comment="from outside the cluster",
            ),
            rule("services", *self.key, vmap("service-ips")),
            rule(
                "services",
                *(fib_daddr_type, eq("local"), destination, ne(self.addresses.loopback)),
                *(l4proto, th_dport, vmap("node-ports")),
            ),
            rule("lb-2", *self.key, numgen_random(2), map_to("endpoints"), dnat(family)),
            rule("lb-2", *self.key, numgen_random(1, LOCAL_LIST), map_to("endpoints"), dnat(family)),
            rule("masquerading", meta_mark, has(MASQUERADE), mark_xor(MASQUERADE), masquerade()),
            rule("masquerading", ct_status, has("dnat"), source, destination, among("hairpin"), masquerade()),
            rule("filter-forward", ct_state, has("new"), destination, among("cluster-ips"), reject(family)),
            rule("filter-forward", *self.key, source, among("source-ranges"), accept),
            rule("filter-forward", source, not_among("networks"), counter(), drop),
            rule("odds", limit(5, 7), leave),
            rule("odds", th_dport, outside(30000, 32767), drop),
            rule("odds", th_dport, between(30000, 32767), drop),
            rule("odds", iifname, eq("eth0"), accept),
            rule("odds", source, eq(self.addresses.pods), accept),
            rule("odds", source, among("clients"), goto("lb-2")),
            rule("odds", source, update("clients")),
            rule("odds", l4proto, eq("tcp"), dnat_to(self.addresses.backends[0], 8080)),
        )

    def service(self, port: int = 80, *, chain: str = "lb-2", comment: str = "shop/web:http") -> Element:
        """The element that sends a port of the virtual address to a chain."""
        key = pack(self.services.key, (self.addresses.vip, "tcp", port))
        return Element(key, Verdict(VerdictCode.GOTO, chain), comment)

    def backend(self, slot: int, address: str, *, port: int = 80, comment: str = "shop/web:http") -> Element:
        """The element of one backend of a port of the virtual address."""
        key = pack(self.endpoints.key, (self.addresses.vip, "tcp", port, slot))
        return Element(key, pack(self.endpoints.data, (address, 8080)), comment)

    @property
    def contents(self) -> tuple[Elements, ...]:
        """What its sets hold."""
        where = self.addresses
        first, last = pack_range(self.ranges.key, (where.vip, "tcp", 80, where.clients))
        return (
            Elements(self.services, (self.service(),)),
            Elements(
                self.endpoints,
                (
                    self.backend(0, where.backends[0]),
                    self.backend(1, where.backends[1]),
                    self.backend(LOCAL_LIST, where.backends[0]),
                ),
            ),
            Elements(
                self.node_ports,
                (Element(pack(self.node_ports.key, ("udp", 30053)), Verdict(VerdictCode.DROP), "kube-system/dns"),),
            ),
            Elements(
                self.hairpin,
                tuple(Element(pack(self.hairpin.key, (backend, backend))) for backend in where.backends),
            ),
            Elements(self.cluster_ips, (Element(pack(self.cluster_ips.key, (where.vip,)), comment="shop/web"),)),
            Elements(self.ranges, (Element(first, key_end=last, comment="shop/web"),)),
            Elements(self.networks, interval_elements((where.pods, where.clients))),
        )

    @property
    def objects(self) -> tuple[Operation, ...]:
        """The table with its sets, chains and rules, all sets empty."""
        return (
            add(Table("rules of kpx")),
            *map(add, self.sets),
            *map(add, self.chains),
            *map(add, self.rules),
        )

    @property
    def transaction(self) -> Transaction:
        return Transaction(self.table, (*self.objects, *map(add, self.contents)))
