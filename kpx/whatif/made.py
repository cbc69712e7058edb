"""The rules that kpx would make of one service port in a mode, in memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kpx.kernel.ipset import Entry
from kpx.kernel.ipvs.types import Virtual
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.sets import Set
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Masquerade
from kpx.proxier.iptables import names
from kpx.proxier.iptables import render as iptables_render
from kpx.proxier.iptables.settings import Settings as IptablesSettings
from kpx.proxier.iptables.skeleton import JUMPS, SHARED, Jump, fixed_chains, tail
from kpx.proxier.ipvs import render as ipvs_render
from kpx.proxier.ipvs import skeleton as ipvs_skeleton
from kpx.proxier.ipvs.names import IpSet
from kpx.proxier.ipvs.render import Server
from kpx.proxier.ipvs.settings import Settings as IpvsSettings
from kpx.proxier.nftables.containers import LOCAL_LIST, containers, slot_key
from kpx.proxier.nftables.layout import Renderer
from kpx.proxier.nftables.settings import Settings as NftablesSettings
from kpx.proxier.nftables.skeleton import skeleton_rules, skeleton_sets
from kpx.proxier.node import LocalTraffic

Chains = dict[tuple[str, str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the rules depend on besides the Service: see the modes' settings. ``elsewhere`` are the node's addresses."""

    family: Family
    pods: LocalTraffic | None = None
    mark: int = 0x4000
    node_ip: str = ""
    node_ports: tuple[str, ...] | None = None
    elsewhere: tuple[str, ...] = ()
    localhost_node_ports: bool = False
    scheduler: str = "rr"


@dataclass(frozen=True, slots=True)
class Made:
    """What there would be: chains of iptables with the jumps to them, a table of nftables, what IPVS serves.

    ``sets`` are those of nftables with their elements, ``ipsets`` those of iptables, by name.
    """

    mode: str
    chains: Chains = field(default_factory=dict)
    jumps: tuple[Jump, ...] = ()
    rules: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    sets: Mapping[str, tuple[Set, Mapping[bytes, Element]]] = field(default_factory=dict)
    servers: Mapping[Virtual, Server] = field(default_factory=dict)
    bound: frozenset[str] = frozenset()
    ipsets: Mapping[str, tuple[str, frozenset[Entry]]] = field(default_factory=dict)


def make(mode: str, frontends: Frontends, here: Circumstances) -> Made:
    """The rules of a mode."""
    return {"iptables": _iptables, "nftables": _nftables, "ipvs": _ipvs}[mode](frontends, here)


def _iptables(frontends: Frontends, here: Circumstances) -> Made:
    settings = IptablesSettings(
        here.family,
        here.pods,
        here.node_ip,
        here.mark,
        here.node_ports,
        localhost_node_ports=here.localhost_node_ports,
    )
    rules = iptables_render.render(frontends, settings)
    chains: Chains = {**fixed_chains(settings)}
    for table, shared in SHARED.items():
        for chain in shared:
            chains[table, chain] = [line.rule for line in rules.lines if (line.table, line.chain) == (table, chain)]
    chains["nat", names.SERVICES] = [*chains["nat", names.SERVICES], *tail(settings)]
    chains |= {("nat", chain): listed for chain, listed in rules.chains.items()}
    return Made("iptables", chains, tuple(jump for jump in JUMPS if jump.to != names.FIREWALL))


def _nftables(frontends: Frontends, here: Circumstances) -> Made:
    settings = NftablesSettings(here.family, here.pods, here.node_ip, here.mark, here.node_ports)
    declared = containers(settings.nf_family)
    layout = Renderer(settings, declared).layout(frontends)
    elements: dict[str, dict[bytes, Element]] = {one.name: {} for one in declared.all()}
    for (name, key), element in {**layout.own, **layout.common}.items():
        elements[name][key] = element
    for place, data in layout.lists.items():
        for slot, one in enumerate(data):
            key = slot_key(place.key, slot + LOCAL_LIST if place.local else slot)
            elements[place.map][key] = Element(key, one, layout.name)
    whole = {**skeleton_sets(settings, declared), **layout.sets}
    for name, one_set in whole.items():
        elements[name] = {one.key: one for one in one_set.elements}
    sets = {one.name: one for one in declared.all()} | {name: one.set for name, one in whole.items()}
    return Made(
        "nftables",
        rules={**skeleton_rules(settings, declared), **layout.chains},
        sets={name: (one, elements[name]) for name, one in sets.items()},
    )


def _ipvs(frontends: Frontends, here: Circumstances) -> Made:
    settings = IpvsSettings(
        here.family,
        scheduler=here.scheduler,
        local_traffic=here.pods,
        masquerade_all=any(one.masquerade is Masquerade.ALWAYS for one in frontends.frontends if not one.external),
        node_ip=here.node_ip,
        mark=here.mark,
        node_ports=here.elsewhere if here.node_ports is None else here.node_ports,
        elsewhere=frozenset(here.elsewhere),
    )
    state = ipvs_render.render(frontends, settings)
    used = {member.set for member in state.members}
    members = {one: frozenset(each.entry for each in state.members if each.set is one) for one in IpSet}
    return Made(
        "ipvs",
        {**ipvs_skeleton.chains(settings, used, state.refusals)},
        ipvs_skeleton.JUMPS,
        servers=state.servers,
        bound=frozenset(state.addresses),
        ipsets={one.in_family(here.family): (one.type, members[one]) for one in IpSet},
    )


def targets(jumps: Iterable[Jump]) -> set[tuple[str, str]]:
    """The chains that jumps lead to, by table."""
    return {(jump.table, jump.to) for jump in jumps}
