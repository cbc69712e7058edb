"""Frontends -> what the table must hold for them.

Pure: one service port at a time, so that a change is rendered from what changed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Verdict as NftVerdict
from kpx.kernel.nft.expressions import VerdictCode
from kpx.kernel.nft.userdata import printable_comment
from kpx.net import contains, packed
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Scope, Verdict
from kpx.proxier.nftables import names
from kpx.proxier.nftables.chains import Chains, Rules, Target, WholeSet
from kpx.proxier.nftables.containers import MOST_SLOTS, Containers, address_key, endpoint_data
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.nftables.skeleton import REJECT
from kpx.proxier.nftables.slots import capacity

Spot = tuple[str, bytes]  # a set's name and an element's key


class Place(NamedTuple):
    """Where a list of endpoints is: the map, the key of its frontend, and whether it is the local list."""

    map: str
    key: bytes
    local: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What one service port needs in the table.

    ``own`` are elements that nobody else has; ``common`` ones may be other service ports' too. ``lists`` are its
    endpoints as the data of slots, whose order the ledger chooses; their comment is ``name``.
    """

    name: str = ""
    own: dict[Spot, Element] = field(default_factory=dict)
    common: dict[Spot, Element] = field(default_factory=dict)
    lists: dict[Place, tuple[bytes, ...]] = field(default_factory=dict)
    chains: dict[str, Rules] = field(default_factory=dict)
    sets: dict[str, WholeSet] = field(default_factory=dict)

    def needs(self, target: Target) -> NftVerdict:
        """Take in all that a target needs; return the verdict that leads there."""
        self.chains.update(target.chains)
        self.sets.update(target.sets)
        return NftVerdict(VerdictCode.GOTO, target.chain)


NOTHING = Layout()

_REJECT = NftVerdict(VerdictCode.GOTO, REJECT)
_DROP = NftVerdict(VerdictCode.DROP)
_comment = lru_cache(maxsize=4096)(printable_comment)


class Renderer:
    """Lays out service ports of one family, under the same settings."""

    def __init__(self, settings: Settings, containers: Containers) -> None:
        self._settings = settings
        self._containers = containers
        self._chains = Chains(settings, containers)

    def layout(self, frontends: Frontends | None) -> Layout:
        """What a service port needs; nothing if there is none."""
        if frontends is None:
            return NOTHING
        made = Layout(_comment(str(frontends.port)))
        for frontend in frontends.frontends:
            self._lay(made, frontends, frontend)
        self._restrict(made, frontends)
        for endpoint in frontends.reachable:
            if endpoint.local:
                address = packed(endpoint.ip)
                made.common[self._containers.hairpin.name, address + address] = Element(address + address)
        return made

    def _lay(self, made: Layout, frontends: Frontends, frontend: Frontend) -> None:
        sets = self._containers
        key = address_key(frontend.address, frontend.protocol, frontend.port)
        node_port = frontend.kind is Kind.NODE_PORT
        forward = (sets.node_ports if node_port else sets.service_ips).name, key
        refuse = (sets.no_endpoint_node_ports if node_port else sets.no_endpoint_services).name, key
        if frontend.kind is Kind.CLUSTER_IP and frontend.address is not None:
            address = packed(frontend.address)
            made.common[sets.cluster_ips.name, address] = Element(
                address, comment=_comment(str(frontends.port.service))
            )
        if forward in made.own or refuse in made.own:
            return  # an address that its Service lists twice
        if frontend.verdict is not Verdict.FORWARD:
            made.own[refuse] = Element(key, _REJECT if frontend.verdict is Verdict.REJECT else _DROP, made.name)
        if frontend.verdict is Verdict.FORWARD or (frontend.verdict is Verdict.DROP and frontend.short_circuit):
            lists = self._remembered if frontends.affinity else self._balanced
            made.own[forward] = Element(
                key, made.needs(self._entered(frontend, lists(made, frontends, frontend, key))), made.name
            )

    def _balanced(self, made: Layout, frontends: Frontends, frontend: Frontend, key: bytes) -> _Lists:
        """The shared chains for a frontend's lists of endpoints; the lists are noted."""
        node_port = frontend.kind is Kind.NODE_PORT
        table = (self._containers.node_port_endpoints if node_port else self._containers.endpoints).name
        prefix = "np-" if node_port else ""
        whole = _data(frontends.cluster if frontend.short_circuit else frontends.served_by(frontend.scope))
        made.lists[Place(table, key, False)] = whole
        size = capacity(len(whole))
        target = self._chains.balance(size, node_port=node_port)
        near = _data(frontends.local) if frontend.short_circuit else ()
        if not near:
            return _Lists(prefix, str(size), target, shared=True)
        made.lists[Place(table, key, True)] = near
        local_size = capacity(len(near))
        local = self._chains.balance(local_size, local=True, node_port=node_port)
        return _Lists(prefix, f"{size}-{local_size}", target, local, shared=True)

    def _remembered(self, made: Layout, frontends: Frontends, frontend: Frontend, _key: bytes) -> _Lists:
        """The chains of session affinity, which all frontends of a service port share."""
        del made
        assert frontends.affinity is not None
        port, seconds, suffix = frontends.port, frontends.affinity, names.of_port(frontends.port)

        def chain(scope: Scope) -> Target:
            return self._chains.remember(port, frontends.served_by(scope), seconds, local=scope is Scope.LOCAL)

        if not frontend.short_circuit:
            return _Lists("", suffix, chain(frontend.scope))
        return _Lists("", suffix, chain(Scope.CLUSTER), chain(Scope.LOCAL) if frontends.local else None)

    def _entered(self, frontend: Frontend, lists: _Lists) -> Target:
        """The chain that leads to the lists, for a frontend of this kind."""
        if frontend.kind is Kind.CLUSTER_IP:
            name = f"cluster-{lists.suffix}"
            return self._made(name, lists, lambda: self._chains.cluster(name, lists.target, frontend.masquerade))
        if not frontend.short_circuit:
            name = f"{lists.prefix}external-{lists.suffix}"
            return self._made(name, lists, lambda: self._chains.external(name, lists.target))
        name = f"{lists.prefix}external-local-{lists.suffix}"
        return self._made(name, lists, lambda: self._chains.external_local(name, lists.target, lists.local))

    def _made(self, name: str, lists: _Lists, make: Callable[[], Target]) -> Target:
        return self._chains.shared(name, make) if lists.shared else make()

    def _restrict(self, made: Layout, frontends: Frontends) -> None:
        """Let only the allowed sources use the load balancer's addresses."""
        guarded = [one for one in frontends.frontends if one.sources and one.address is not None]
        if not guarded:
            return
        networks = list(guarded[0].sources)
        if self._settings.node_ip and any(contains(network, self._settings.node_ip) for network in networks):
            # The node may hold the address itself, and then sends from it.
            networks += [f"{one.address}/{self._settings.family.bits}" for one in guarded]
        leads = NftVerdict(VerdictCode.JUMP, made.needs(self._chains.firewall(networks)).chain)
        for one in guarded:
            key = address_key(one.address, one.protocol, one.port)
            made.own[self._containers.firewall_ips.name, key] = Element(key, leads, made.name)


@dataclass(frozen=True, slots=True)
class _Lists:
    """The chains that a frontend's lists of endpoints are served by, and what chains before them are named by.

    ``shared`` says that they depend on the lists' lengths alone.
    """

    prefix: str
    suffix: str
    target: Target
    local: Target | None = None
    shared: bool = False


def _data(endpoints: Iterable[Endpoint]) -> tuple[bytes, ...]:
    """Endpoints as the data of slots, each once, as many as a list can hold."""
    return tuple(dict.fromkeys(endpoint_data(one.ip, one.port) for one in endpoints))[:MOST_SLOTS]
