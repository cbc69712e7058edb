"""Answers questions of `kpx trace` as they would be if something were otherwise. Nothing is written anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace as replaced

from msgspec.structs import replace

from kpx.diff.reading import layouts
from kpx.kernel import links
from kpx.kernel.iptables.program import find
from kpx.kernel.nft.connection import Nft
from kpx.net import Family, canonical_network, is_link_local, is_loopback
from kpx.proxier.frontends import Frontends
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.ipvs.settings import DEFAULT_SCHEDULER
from kpx.proxier.node import LocalTraffic
from kpx.proxier.nodeports import PRIMARY, NodePortAddresses
from kpx.tools import stock
from kpx.tools.cluster import Cluster
from kpx.tools.errors import ToolError, UsageError
from kpx.trace.answer import Answer
from kpx.trace.comparison import differences
from kpx.trace.questions import Question, Wanted
from kpx.trace.reading.kernel import CannotTrace, Node, consistent, fingerprint, follow, proxies
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.rules import KernelRules
from kpx.trace.reading.senders import OUTSIDE
from kpx.trace.result import Trace
from kpx.whatif.assumptions import Assumptions
from kpx.whatif.made import Circumstances, Made, make
from kpx.whatif.overlay import SupposedFacts, SupposedRules

Answering = Callable[[Question, str, Cluster | None], Answer]

_VARIANT = "iptables-"
_ASSUMED = (
    "the rules of Services are those that kpx would make for this Service; "
    "all other rules, routes and addresses are this node's own"
)


def answering(assumptions: Assumptions) -> Answering:
    """How questions are answered under assumptions."""

    def answer(question: Question, sender: str, cluster: Cluster | None) -> Answer:
        if cluster is None or cluster.source == "kernel":
            raise ToolError("--if needs to know what the cluster wants: from the daemon, an API server or --manifests")
        if question.wanted is None:
            raise UsageError(f"--if is for Services, and none has the address {question.target}")
        return _answer(question, question.wanted, sender, cluster, assumptions)

    return answer


def _answer(question: Question, wanted: Wanted, sender: str, cluster: Cluster, assumptions: Assumptions) -> Answer:
    planned = assumptions.applied(wanted.port, cluster.node)
    frontend = next(
        one
        for one in planned.frontends
        if (one.kind, one.address, one.port) == (wanted.frontend.kind, wanted.frontend.address, wanted.frontend.port)
    )
    supposed = replaced(wanted, port=planned, frontend=frontend)
    traced = _traced(question, planned, sender, cluster, assumptions)
    asked = Question(question.target, supposed)
    return Answer(asked, traced, tuple(differences(supposed, traced)))


def _traced(question: Question, planned: Frontends, sender: str, cluster: Cluster, assumptions: Assumptions) -> Trace:
    if os.geteuid() != 0:
        raise CannotTrace("The kernel shows its rules to root only: run it with sudo, or in a privileged container.")
    family = question.target.family or _family(planned)
    with Nft() as nft:
        return consistent(
            lambda: _once(question, planned, sender, cluster, assumptions, family, nft),
            lambda: fingerprint(family, nft),
        )


def _family(planned: Frontends) -> Family:
    return Family.IPV6 if any(":" in (one.address or "") for one in planned.frontends) else Family.IPV4


def _once(
    question: Question,
    planned: Frontends,
    sender: str,
    cluster: Cluster,
    assumptions: Assumptions,
    family: Family,
    nft: Nft,
) -> Trace:
    facts = KernelFacts(nft)
    supposed: SupposedFacts | None = None
    try:
        kernel = KernelRules(family, nft, facts)
        present = proxies(kernel)
        mode = assumptions.mode or cluster.mode or _mode(present)
        here = circumstances(family, mode, cluster, facts, nft)
        made = make(mode, planned, here)
        bound = [one.address for one in links.addresses(family) if one.interface == DEVICE]
        supposed = SupposedFacts(nft, made, family, bound, OUTSIDE[family])
        rules = SupposedRules(kernel, made, family, _kind(present, family), supposed)
        node = Node(family, supposed, rules, supposed, [_proxy(made), *(["ipvs"] if mode == "ipvs" else [])])
        traced = follow(question.target, sender, node)
    finally:
        facts.close()
        if supposed:
            supposed.close()
    notes = (f"supposed: {', '.join(assumptions.texts)}", _ASSUMED)
    return replaced(traced, notes=(*traced.notes, *notes))


def _proxy(made: Made) -> str:
    return f"those that kpx would make in mode {made.mode}"


def _mode(present: Iterable[str]) -> str:
    """The mode whose rules are there."""
    names = list(present)
    if "ipvs" in names:
        return "ipvs"
    if any(one.startswith("nftables") for one in names):
        return "nftables"
    if names:
        return "iptables"
    raise ToolError("the node's proxy mode is not known, and there are no rules to tell it: add --if mode=nftables")


def _kind(present: Iterable[str], family: Family) -> str:
    """The variant of iptables that is used: that of the rules which are there, or else the one kpx would choose."""
    used = next((one for one in present if one.startswith(_VARIANT)), None)
    return used or f"{_VARIANT}{find(family).variant.value}"


def circumstances(family: Family, mode: str, cluster: Cluster, facts: KernelFacts, nft: Nft) -> Circumstances:
    """What the configuration, the node's addresses and the rules that are there say, for a mode."""
    proxy = _in_mode(cluster.proxy or stock.Configuration(), mode)
    node_ip = facts.route_to(OUTSIDE[family]).source
    addresses = [
        one.address for one in links.addresses(family) if one.interface != DEVICE and not is_link_local(one.address)
    ]
    elsewhere = tuple(one for one in addresses if not is_loopback(one))
    localhost = mode == "iptables" and family is Family.IPV4 and proxy.iptables.localhost_node_ports
    return Circumstances(
        family,
        pods=_pods(family, cluster, nft),
        mark=1 << proxy.marking.masquerade_bit,
        node_ip=node_ip,
        node_ports=_node_ports(proxy, family, node_ip, addresses if localhost else elsewhere),
        elsewhere=elsewhere,
        localhost_node_ports=localhost,
        scheduler=proxy.ipvs.scheduler or DEFAULT_SCHEDULER,
    )


def _in_mode(proxy: stock.Configuration, mode: str) -> stock.Configuration:
    """The configuration with another mode. What a proxy shows as its node-port addresses may be the mode's default."""
    default = mode != proxy.mode == "nftables" and proxy.node_port_addresses == (PRIMARY,)
    return replace(proxy, mode=mode, node_port_addresses=None if default else proxy.node_port_addresses)


def _pods(family: Family, cluster: Cluster, nft: Nft) -> LocalTraffic | None:
    """How packets of pods are told: as the configuration says, or else as the rules that are there show it."""
    if told := cluster.pods(family):
        return told
    found = layouts(nft, cluster.mode, lambda _: None, own=False)
    return next((layout.learned.pods for layout in found if layout.family is family), None)


def _node_ports(
    proxy: stock.Configuration, family: Family, node_ip: str, addresses: Iterable[str]
) -> tuple[str, ...] | None:
    """The addresses that node ports answer on; None for all of the node's."""
    given = tuple(proxy.node_port_addresses or ()) or ((PRIMARY,) if proxy.mode == "nftables" else ())
    if given == (PRIMARY,):
        return (node_ip,) if node_ip else None
    matching = NodePortAddresses([one for one in map(canonical_network, given) if one], family)
    return None if matching.match_all else tuple(matching.matching(addresses))
