"""What a trace found against what the cluster wants: every difference, in words. Pure.

Source: kube-proxy 1.36 (traffic policies, short-circuits of what comes from the node, masquerade).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network

from kpx.net import join_port
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Masquerade, Scope
from kpx.proxier.frontends import Verdict as Fate
from kpx.trace.questions import Wanted
from kpx.trace.result import Branch, Sender, Trace, Verdict

_IPVS = "ipvs"
_INPUT = "input"
_NO_ENDPOINTS = "it has no endpoints"
_THROUGH = (Verdict.SENT, Verdict.DELIVERED)
_REFUSED = (Verdict.REJECTED, Verdict.DROPPED)
# Chance in iptables is a number of 32 bits, printed with ten digits, and shares of many ways are rounded.
_SHARE_TOLERANCE = 0.002


class Sort(Enum):
    """What sort of difference it is."""

    MISSING_ENDPOINT = "missing endpoint"
    FOREIGN_DESTINATION = "foreign destination"
    LOST = "lost on the way"
    NOT_REFUSED = "not refused"
    UNTRANSLATED = "not translated"
    MASQUERADE = "masquerade"
    AFFINITY = "session affinity"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the cluster wants it."""

    sort: Sort
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What should become of a packet: it goes to one of ``endpoints``, or else ``fate`` says how it is refused.

    It may go to one of ``others`` too, where it hangs on more than is known whether it should.
    """

    fate: Fate
    endpoints: tuple[Endpoint, ...] = ()
    others: tuple[Endpoint, ...] = ()
    reason: str = ""


def expected(wanted: Wanted, trace: Trace) -> Expected | None:
    """What the cluster wants for the packet of a trace; None where that hangs on more than is known."""
    port, frontend = wanted.port, wanted.frontend
    inside = trace.sender.kind == "node" or _may_be_pod(wanted, trace.sender)
    if frontend.sources and frontend.kind is Kind.LOAD_BALANCER:
        if trace.sender.kind == "node":
            return None  # rules for the node's own packets to its balancer are there for some addresses only
        if not any(ip_address(trace.sender.address) in ip_network(source) for source in frontend.sources):
            return Expected(Fate.DROP, reason="its loadBalancerSourceRanges do not hold the sender")
    if _IPVS in trace.proxies:
        return _expected_of_ipvs(port, frontend)
    if frontend.short_circuit and inside and port.cluster:
        if trace.sender.kind == "node":
            return Expected(Fate.FORWARD, port.cluster)
        # Whether a pod counts as one of this node is for the detector of local traffic to say: either list may serve.
        both = tuple(one for one in port.local if one in port.cluster)
        return Expected(Fate.FORWARD, both, (*port.local, *port.cluster)) if port.local else None
    if frontend.verdict is Fate.FORWARD:
        return Expected(Fate.FORWARD, port.served_by(frontend.scope))
    local = frontend.scope is Scope.LOCAL and port.has_endpoints
    return Expected(frontend.verdict, reason="no endpoint of this node is usable" if local else _NO_ENDPOINTS)


def _may_be_pod(wanted: Wanted, sender: Sender) -> bool:
    """Whether the proxy may take a sender for a pod: one of another node, too, where pods are told by their network."""
    if sender.kind != "external":
        return sender.kind == "pod"
    if wanted.pods is None:
        return not sender.note  # a certain address, and nobody says whose
    network = wanted.pods.source
    return bool(network) and ip_address(sender.address) in ip_network(network)


def _expected_of_ipvs(port: Frontends, frontend: Frontend) -> Expected:
    """A virtual server drops nothing: without an endpoint on this node it leads to others; and it is one for all."""
    served = port.served_by(frontend.scope) or port.cluster
    return Expected(Fate.FORWARD, served) if served else Expected(Fate.REJECT, reason=_NO_ENDPOINTS)


def differences(wanted: Wanted, trace: Trace) -> list[Difference]:
    """All that a trace shows to be otherwise than wanted; nothing of what is not evaluated."""
    due = expected(wanted, trace)
    if due is None:
        return []
    if due.fate is not Fate.FORWARD:
        return list(dict.fromkeys(_not_refused(due, trace)))
    return list(dict.fromkeys([*_ways(wanted, due, trace), *_others(wanted, due, trace)]))


def _certain(trace: Trace) -> Iterator[Branch]:
    return (one for one in trace.branches if not one.unknown and one.ending.verdict is not Verdict.UNDECIDED)


def _not_refused(due: Expected, trace: Trace) -> Iterator[Difference]:
    for branch in _certain(trace):
        ending = branch.ending
        if ending.verdict in _THROUGH and (ending.translated or ending.verdict is Verdict.SENT):
            to = join_port(ending.destination, ending.port)
            yield Difference(Sort.NOT_REFUSED, f"a packet goes to {to}, though {due.reason}")


def _ways(wanted: Wanted, due: Expected, trace: Trace) -> Iterator[Difference]:
    """Where packets go, against where they should go."""
    right = {str(one) for one in (*due.endpoints, *due.others)}
    reached = {join_port(branch.ending.destination, branch.ending.port) for branch in trace.branches}
    for branch in trace.branches:
        if not branch.unknown and (found := _wrong_end(wanted, right, branch, trace)):
            yield found
    if right & reached:
        for name in map(str, due.endpoints):
            if name not in reached:
                yield Difference(Sort.MISSING_ENDPOINT, f"no packet goes to {name}, which is an endpoint")


def _wrong_end(wanted: Wanted, right: Collection[str], branch: Branch, trace: Trace) -> Difference | None:
    ending = branch.ending
    to = join_port(ending.destination, ending.port)
    if ending.verdict is Verdict.UNDECIDED:
        return None
    if ending.verdict in _REFUSED:
        if to in right:
            return Difference(Sort.LOST, f"what goes to endpoint {to} is {ending.verdict.value} {ending.reason}")
        if wanted.frontend.kind is Kind.NODE_PORT and ending.hook == _INPUT:
            where = f"{trace.destination} is not among the addresses of node ports"
            return Difference(Sort.UNTRANSLATED, f"{where}: see nodePortAddresses and localhostNodePorts")
        why = f"a packet is {ending.verdict.value} before it goes to an endpoint: {ending.reason}"
        return Difference(Sort.LOST, why)
    if to in right:
        return None
    if ending.translated:
        where = f"a packet goes to {to}, which is none of its endpoints"
        return Difference(Sort.FOREIGN_DESTINATION, f"{where}{_who(branch, trace)}")
    return Difference(Sort.UNTRANSLATED, "no rule sends the packet to an endpoint")


def _who(branch: Branch, trace: Trace) -> str:
    """The last rule that translated."""
    for hop in reversed((*trace.hops, *branch.hops)):
        if "dnat" in hop.rule.lower() or "redirect" in hop.rule.lower():
            return f": rule '{hop.rule}' of table {hop.table}, chain {hop.chain}"
    return ""


def _others(wanted: Wanted, due: Expected, trace: Trace) -> Iterator[Difference]:
    endpoints = {str(one) for one in (*due.endpoints, *due.others)}
    arriving = [
        one
        for one in _certain(trace)
        if one.ending.verdict in _THROUGH and join_port(one.ending.destination, one.ending.port) in endpoints
    ]
    for branch in arriving:
        yield from _masquerade(wanted, branch, trace)
    if wanted.port.affinity and arriving and len(endpoints) > 1 and not trace.affinity:
        yield Difference(Sort.AFFINITY, "session affinity is wanted, and no rule remembers where a client went")
    chance = [one for one in arriving if not one.remembered]
    even = 1 / len(endpoints)
    if _IPVS not in trace.proxies and len(chance) == len(endpoints) == len(list(_certain(trace))):
        for branch in chance:
            if branch.share is not None and abs(branch.share - even) > _SHARE_TOLERANCE:
                to = join_port(branch.ending.destination, branch.ending.port)
                yield Difference(Sort.SHARE, f"{to} gets {branch.share:.1%} of new connections, not {even:.1%}")


def _masquerade(wanted: Wanted, branch: Branch, trace: Trace) -> Iterator[Difference]:
    frontend, sender, ending = wanted.frontend, trace.sender, branch.ending
    if sender.kind == "node" or ending.destination == sender.address or ending.verdict is Verdict.DELIVERED:
        return  # the node chooses a source of its own, and a pod that reaches itself is always masqueraded
    due = frontend.masquerade is Masquerade.ALWAYS or (
        frontend.masquerade is Masquerade.OFF_CLUSTER and sender.kind == "external" and not _may_be_pod(wanted, sender)
    )
    if due and not ending.masqueraded:
        text = f"what goes to {join_port(ending.destination, ending.port)} keeps its source {ending.source}"
        yield Difference(Sort.MASQUERADE, f"{text}, and should be masqueraded: its answer may pass the node by")
    if ending.masqueraded and frontend.masquerade is Masquerade.NODE and sender.kind == "external":
        text = f"{join_port(ending.destination, ending.port)} sees {ending.source}"
        yield Difference(Sort.MASQUERADE, f"{text} in place of the client {sender.address}, which should be kept")
