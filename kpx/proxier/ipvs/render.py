"""Frontends -> what ipvs mode needs of the kernel for one service port.

Pure. Source: kube-proxy 1.36 in ipvs mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kpx.kernel.ipset import Entry
from kpx.kernel.ipvs.types import PROTOCOLS, Real, Virtual
from kpx.kernel.ipvs.types import Settings as VirtualSettings
from kpx.net import contains
from kpx.proxier.frontends import Frontend, Frontends, Kind, Scope
from kpx.proxier.iptables.rules import host, rule
from kpx.proxier.ipvs.names import IpSet
from kpx.proxier.ipvs.settings import Settings

_NODE_PORT_SETS = {
    "TCP": (IpSet.NODE_PORT_TCP, IpSet.NODE_PORT_LOCAL_TCP),
    "UDP": (IpSet.NODE_PORT_UDP, IpSet.NODE_PORT_LOCAL_UDP),
    "SCTP": (IpSet.NODE_PORT_SCTP, IpSet.NODE_PORT_LOCAL_SCTP),
}


class Server(NamedTuple):
    """A virtual server: how it works, and its real servers."""

    settings: VirtualSettings
    reals: tuple[Real, ...]


class Member(NamedTuple):
    """An entry of one of our sets."""

    set: IpSet
    entry: Entry


class PortState(NamedTuple):
    """What one service port needs.

    ``addresses`` are for our device; ``members`` and ``refusals`` (rules of KUBE-IPVS-OUT-FILTER) may be other service
    ports' as well.
    """

    servers: dict[Virtual, Server]
    addresses: tuple[str, ...]
    members: tuple[Member, ...]
    refusals: tuple[str, ...]


NO_STATE = PortState({}, (), (), ())


def render(frontends: Frontends, settings: Settings) -> PortState:
    """What one service port needs."""
    virtual = settings.virtual(frontends.affinity)
    servers: dict[Virtual, Server] = {}
    addresses: list[str] = []
    members = list(_loop_back(frontends))
    refusals: list[str] = []
    for one in frontends.frontends:
        reached_at = settings.node_ports if one.address is None else (one.address,)
        server = Server(virtual, _reals(frontends, one.scope))
        servers |= {Virtual(address, one.port, one.protocol): server for address in reached_at}
        if one.address is not None and (one.kind is Kind.CLUSTER_IP or one.address not in settings.elsewhere):
            addresses.append(one.address)
        members += _members(one, settings)
        refusals += _refusals(one, settings)
    members += [Member(IpSet.IPVS_IPS, Entry(address)) for address in addresses]
    if frontends.health_check_port and frontends.frontends:
        members.append(Member(IpSet.HEALTH_CHECK_NODE_PORT, Entry(port=frontends.health_check_port)))
    return PortState(servers, tuple(dict.fromkeys(addresses)), tuple(dict.fromkeys(members)), tuple(refusals))


def _reals(frontends: Frontends, scope: Scope) -> tuple[Real, ...]:
    """The endpoints that serve a scope: without local ones, the policy Local falls back on all in this mode."""
    served_by = frontends.served_by(scope) or frontends.cluster
    return tuple(Real(one.ip, one.port) for one in served_by)


def _loop_back(frontends: Frontends) -> Iterator[Member]:
    """The local endpoints, in whatever state: a pod that reaches itself must see another sender."""
    if not frontends.frontends:
        return
    protocol = frontends.port.protocol.lower()
    for one in frontends.endpoints:
        if one.local:
            yield Member(IpSet.LOOP_BACK, Entry(one.ip, protocol, one.port, one.ip))


def _members(one: Frontend, settings: Settings) -> Iterator[Member]:
    local = one.scope is Scope.LOCAL
    match one.kind:
        case Kind.CLUSTER_IP:
            yield Member(IpSet.CLUSTER_IP, _portal(one))
        case Kind.EXTERNAL_IP:
            yield Member(IpSet.EXTERNAL_IP_LOCAL if local else IpSet.EXTERNAL_IP, _portal(one))
        case Kind.LOAD_BALANCER:
            yield Member(IpSet.LOAD_BALANCER, _portal(one))
            if local:
                yield Member(IpSet.LOAD_BALANCER_LOCAL, _portal(one))
            yield from _source_members(one, settings)
        case Kind.NODE_PORT:
            yield from _node_port_members(one, settings, local=local)


def _portal(one: Frontend) -> Entry:
    return Entry(one.address or "", one.protocol.lower(), one.port)


def _source_members(one: Frontend, settings: Settings) -> Iterator[Member]:
    if not one.sources:
        return
    portal = _portal(one)
    yield Member(IpSet.LOAD_BALANCER_FW, portal)
    for network in one.sources:
        yield Member(IpSet.LOAD_BALANCER_SOURCE_CIDR, portal._replace(second=network))
    if _node_allowed(one, settings):
        # The node reaches the address, which is its own in this mode, from the address itself.
        yield Member(IpSet.LOAD_BALANCER_SOURCE_IP, portal._replace(second=portal.address))


def _node_allowed(one: Frontend, settings: Settings) -> bool:
    return bool(settings.node_ip) and any(contains(network, settings.node_ip) for network in one.sources)


def _refusals(one: Frontend, settings: Settings) -> Iterator[str]:
    """The node itself is refused on its way out: what it sends to its own address passes no other filter."""
    if not one.sources or one.kind is not Kind.LOAD_BALANCER or _node_allowed(one, settings):
        return
    server = f"-m ipvs --vproto {PROTOCOLS[one.protocol]} --vaddr {one.address} --vport {one.port}"
    yield rule(server, source=host(one.address or ""), jump="DROP")


def _node_port_members(one: Frontend, settings: Settings, *, local: bool) -> Iterator[Member]:
    every, kept = _NODE_PORT_SETS[one.protocol]
    if one.protocol == "SCTP":
        entries = [Entry(address, "sctp", one.port) for address in settings.node_ports]
    else:
        entries = [Entry(port=one.port)]
    for entry in entries:
        if local:
            yield Member(kept, entry)
        yield Member(every, entry)
