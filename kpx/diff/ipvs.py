"""Mode ipvs, kpx's or kube-proxy's: virtual servers, addresses, IP sets and the few rules of iptables."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kpx.diff.difference import Difference, compare
from kpx.diff.facts import Aspect, Fact, Facts
from kpx.diff.iptables_base import compare_chain, compare_jump
from kpx.diff.iptables_facts import place
from kpx.diff.layout import DEFAULT_MARK, Learned, Ports, commonest
from kpx.kernel import links
from kpx.kernel.ipset import Entry, Ipsets, IpsetUnavailable
from kpx.kernel.iptables.tables import Tables
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable
from kpx.kernel.ipvs.types import Flag, Method, RealServer, Virtual, VirtualServer
from kpx.kernel.ipvs.types import Settings as VirtualSettings
from kpx.net import Family, is_link_local, is_loopback
from kpx.proxier.frontends import Frontends, Kind, ServicePortName
from kpx.proxier.ipvs.names import DEVICE, MARK_MASQ, OUT_FILTER, SERVICES, IpSet
from kpx.proxier.ipvs.remains import possible
from kpx.proxier.ipvs.render import Member, PortState, render
from kpx.proxier.ipvs.settings import DEFAULT_SCHEDULER, Settings
from kpx.proxier.ipvs.skeleton import JUMPS, chains
from kpx.proxier.node import LocalTraffic

Servers = Mapping[Virtual, tuple[VirtualServer, list[RealServer]]]

_OUTSIDE = re.compile(r"! (-[si]) (\S+) .*-j KUBE-MARK-MASQ$")
_MARK = re.compile(r"--(?:set-xmark|or-mark) (0x[0-9a-f]+)")
_ASPECTS = {
    IpSet.LOOP_BACK: Aspect.HAIRPIN,
    IpSet.LOAD_BALANCER_FW: Aspect.SOURCES,
    IpSet.LOAD_BALANCER_SOURCE_CIDR: Aspect.SOURCES,
    IpSet.HEALTH_CHECK_NODE_PORT: Aspect.HEALTH_CHECK,
}
# Whether the node itself may use a restricted address hangs on the node's address, which is not known here.
_PASSED_OVER = (IpSet.LOAD_BALANCER_SOURCE_IP,)


@dataclass
class IpvsLayout:
    """The `Layout` of mode ipvs. ``elsewhere`` are the addresses of other interfaces than the proxy's own."""

    family: Family
    servers: Servers
    sets: Mapping[IpSet, Collection[Entry] | None]
    bound: Collection[str]
    elsewhere: Collection[str]
    tables: Tables
    pods: LocalTraffic | None = None
    program: str = field(default="mode ipvs", init=False)
    sign: str = field(default="ipvs", init=False)

    @cached_property
    def learned(self) -> Learned:
        rules = self.tables.rules("nat", SERVICES)
        cluster = [rule for rule in rules if IpSet.CLUSTER_IP.in_family(self.family) in rule and MARK_MASQ in rule]
        outside = next((match for rule in cluster if (match := _OUTSIDE.search(rule))), None)
        marks = (_MARK.search(rule) for rule in self.tables.rules("nat", MARK_MASQ))
        mark = next((int(match[1], 16) for match in marks if match), DEFAULT_MARK)
        if outside and outside[1] == "-i":
            return Learned(LocalTraffic(interface=outside[2]), mark=mark)
        everything = not outside and any("dst,dst" in rule for rule in cluster)
        return Learned(LocalTraffic(outside[2]) if outside else self.pods, everything, mark)

    @cached_property
    def settings(self) -> Settings:
        """What is wanted is made with these; scheduler and the addresses of node ports are those that are found."""
        used = {virtual.address for virtual in self.servers if virtual.family is self.family}
        return Settings(
            self.family,
            scheduler=commonest(one.settings.scheduler for one, _ in self.servers.values()) or DEFAULT_SCHEDULER,
            local_traffic=self.learned.pods,
            masquerade_all=self.learned.masquerade_all,
            mark=self.learned.mark,
            node_ports=tuple(one for one in self.elsewhere if one in used) or tuple(self.elsewhere),
            elsewhere=frozenset(self.elsewhere),
        )

    def differences(self, ports: Ports) -> Iterator[Difference]:
        states = {port: render(frontends, self.settings) for port, frontends in ports.items()}
        yield from self._base({member.set for state in states.values() for member in state.members})
        for port, state in states.items():
            yield from compare(self.family, port, self._wanted(state), self._held(state))
        yield from self._left_over(ports, states)

    def _base(self, used: Collection[IpSet]) -> Iterator[Difference]:
        wanted, held = Facts(), Facts()
        for jump in JUMPS:
            compare_jump(jump, self.tables.rules(jump.table, jump.chain), wanted, held)
        for (table, chain), rules in chains(self.settings, used, ()).items():
            if chain != OUT_FILTER:
                compare_chain(table, chain, rules, self.tables.rules(table, chain), wanted, held)
        yield from compare(self.family, None, wanted, held)

    # What is wanted, and what there is of it.

    def _wanted(self, state: PortState) -> Facts:
        found: Facts = {}
        for virtual, server in state.servers.items():
            _virtual_facts(virtual, server.settings, found)
            for real in server.reals:
                _real_fact(virtual, str(real), "weight 1", found)
        for address in state.addresses:
            _put(found, Aspect.RULE, f"{address} on {DEVICE}", f"interface {DEVICE}")
        for member in state.members:
            if member.set not in _PASSED_OVER:
                self._member_fact(member, found)
        return found

    def _held(self, state: PortState) -> Facts:
        """What the kernel has of the same virtual servers, addresses and entries."""
        found: Facts = {}
        for virtual, server in state.servers.items():
            if virtual in self.servers:
                there, reals = self.servers[virtual]
                _virtual_facts(virtual, there.settings, found)
                for one in reals:
                    # What is not wanted any more and gets nothing new drains.
                    if one.weight or one.real in server.reals:
                        _real_fact(virtual, str(one.real), _works(one), found)
        for address in state.addresses:
            if address in self.bound:
                _put(found, Aspect.RULE, f"{address} on {DEVICE}", f"interface {DEVICE}")
        for member in state.members:
            if member.set not in _PASSED_OVER and member.entry in (self.sets[member.set] or ()):
                self._member_fact(member, found)
        return found

    def _member_fact(self, member: Member, found: Facts) -> None:
        name = member.set.in_family(self.family)
        aspect = _ASPECTS.get(member.set, Aspect.RULE)
        subject = str(member.entry)
        if aspect is Aspect.HAIRPIN:
            subject = place(member.entry.address, member.entry.port, member.entry.protocol)
        elif aspect is not Aspect.HEALTH_CHECK:
            subject = f"{member.entry} in the set {name}"
        _put(found, aspect, subject, f"ipset {name}", str(member.entry))

    def _left_over(self, ports: Ports, states: Mapping[ServicePortName, PortState]) -> Iterator[Difference]:
        """Virtual servers, addresses and entries of the proxy's that nobody asks for."""
        owners = _owners(ports)
        servers = {virtual for state in states.values() for virtual in state.servers}
        members = {member for state in states.values() for member in state.members}
        addresses = {address for state in states.values() for address in state.addresses}
        portals = {(one.address, one.protocol, one.port) for found in self.sets.values() for one in found or ()}
        for virtual in self.servers:
            ours = (virtual.address, virtual.protocol.lower(), virtual.port) in portals
            if virtual not in servers and ours and virtual.family is self.family:
                to = place(virtual.address, virtual.port, virtual.protocol)
                fact = {(Aspect.ADDRESS, to): Fact("real servers", "IPVS")}
                yield from compare(self.family, None, {}, fact)
        for one, entries in self.sets.items():
            for entry in entries or ():
                if Member(one, entry) not in members and one not in _PASSED_OVER:
                    found: Facts = {}
                    self._member_fact(Member(one, entry), found)
                    owner = owners.get((entry.address, entry.port, entry.protocol))
                    yield from compare(self.family, owner, {}, found)
        for address in set(self.bound) - addresses:
            found = {}
            _put(found, Aspect.RULE, f"{address} on {DEVICE}", f"interface {DEVICE}")
            yield from compare(self.family, None, {}, found)


def _put(found: Facts, aspect: Aspect, subject: str, where: str, rule: str = "") -> None:
    found[aspect, subject] = Fact("", where, rule)


def _virtual_facts(virtual: Virtual, settings: VirtualSettings, found: Facts) -> None:
    to = place(virtual.address, virtual.port, virtual.protocol)
    found[Aspect.ADDRESS, to] = Fact(f"its real servers by {settings.scheduler}", "IPVS", str(virtual))
    if settings.flags & Flag.PERSISTENT:
        found[Aspect.AFFINITY, to] = Fact(f"for {settings.timeout} s", "IPVS", str(virtual))


def _real_fact(virtual: Virtual, real: str, works: str, found: Facts) -> None:
    to = place(virtual.address, virtual.port, virtual.protocol)
    found[Aspect.ENDPOINT, f"{real} of {to}"] = Fact(works, "IPVS", f"{virtual} -> {real}")


def _works(real: RealServer) -> str:
    if real.method != Method.MASQUERADE:
        return f"reached by {Method(real.method).name.lower()}, not by masquerading"
    return f"weight {real.weight}"


def _owners(ports: Ports) -> dict[tuple[str, int, str], ServicePortName]:
    """Whose an address and port is."""
    found = {}
    for port, frontends in ports.items():
        for one in frontends.frontends:
            if one.address is not None or one.kind is not Kind.NODE_PORT:
                found[one.address or "", one.port, one.protocol.lower()] = port
        found.update(_endpoint_owners(frontends))
    return found


def _endpoint_owners(frontends: Frontends) -> dict[tuple[str, int, str], ServicePortName]:
    protocol = frontends.port.protocol.lower()
    return {(one.ip, one.port, protocol): frontends.port for one in frontends.endpoints}


def read(pods: Callable[[Family], LocalTraffic | None], tables: Callable[[Family], Tables]) -> Iterator[IpvsLayout]:
    """What IPVS serves, each family's, beside the tables of iptables; nothing where it serves nothing."""
    if not possible():
        return
    try:
        with Ipvs(counted=False) as table, Ipsets() as sets:
            servers = {one.virtual: (one, table.reals(one.virtual)) for one in table.virtuals() if not one.virtual.mark}
            held = {family: {one: sets.entries(one.in_family(family)) for one in IpSet} for family in Family}
    except (IpvsUnavailable, IpsetUnavailable):
        return
    for family in Family:
        addresses = links.addresses(family)
        bound = [one.address for one in addresses if one.interface == DEVICE and not is_link_local(one.address)]
        if not (bound or any(held[family].values())):
            continue
        elsewhere = [
            one.address
            for one in addresses
            if one.interface != DEVICE and not is_loopback(one.address) and not is_link_local(one.address)
        ]
        yield IpvsLayout(family, servers, held[family], bound, elsewhere, tables(family), pods(family))
