"""The way of packets through the node's rules, whoever made them: followed hop by hop, without sending any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kpx.doctor import fixes
from kpx.doctor.check import SETTLES, check
from kpx.doctor.facts import Facts, NotKnown, wanted_target
from kpx.doctor.finding import Evidence, Result, failed, passed, told, warned
from kpx.doctor.subject import Subject, samples
from kpx.doctor.way import Obstacle, Trouble, answers, hop_text, obstacles, place, refused_by_others
from kpx.net import Family
from kpx.proxier.frontends import Frontend, Frontends, Kind
from kpx.trace.result import Trace
from kpx.trace.target import Target

_FOREIGN = (Trouble.FOREIGN_REFUSAL, Trouble.FOREIGN_TRANSLATION)
_OUTSIDE_KINDS = (Kind.EXTERNAL_IP, Kind.LOAD_BALANCER, Kind.NODE_PORT)


@dataclass(frozen=True, slots=True)
class Walked:
    """A packet's way to an address of a Service."""

    family: Family
    port: Frontends
    frontend: Frontend
    sender: str
    trace: Trace

    @property
    def says(self) -> str:
        return f"{answers(self.frontend)} from {self.sender}"


def walks(facts: Facts, subject: Subject, *, outside: bool) -> Iterator[Walked]:
    """The ways that an operator would look at: to ClusterIPs from a pod, or to the others from outside."""
    kinds, sender = (_OUTSIDE_KINDS, "external") if outside else ((Kind.CLUSTER_IP,), "pod")
    reasons = []
    walked = 0
    for family, port, frontend in samples(facts, subject, *kinds):
        if outside and frontend.address is None and family is Family.IPV6:
            continue  # a node port without an address is traced by its IPv4 one
        try:
            trace = facts.trace(wanted_target(frontend, str(port.port)), allowed(frontend, sender))
        except NotKnown as reason:
            reasons.append(str(reason))
            continue
        walked += 1
        yield Walked(family, port, frontend, sender, trace)
    if not walked:
        raise NotKnown(
            reasons[0] if reasons else f"no {'address for clients outside' if outside else 'ClusterIP'} to try"
        )


def allowed(frontend: Frontend, sender: str) -> str:
    """A sender that may use the address: one of its source ranges, if it has any."""
    if not frontend.sources or sender != "external":
        return sender
    address, _, _ = frontend.sources[0].partition("/")
    return _next(address)


def _next(address: str) -> str:
    """The first host of a network: its own address may be no host's."""
    if ":" in address:
        return f"{address}1" if address.endswith("::") else address
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) + 1}" if last == "0" else address


def _look(facts: Facts, subject: Subject, troubles: tuple[Trouble, ...], outside: bool) -> Iterator[Result]:
    seen: set[object] = set()
    ways = unsure = 0
    for one in walks(facts, subject, outside=outside):
        ways += 1
        unsure += any(branch.unknown for branch in one.trace.branches)
        for obstacle in obstacles(one.trace, one.port):
            key = (obstacle.trouble, obstacle.hop.rule, obstacle.hop.chain) if obstacle.hop else obstacle
            if obstacle.trouble in troubles and key not in seen:
                seen.add(key)
                yield _trouble(facts, one, obstacle, sure=subject.named or not outside)
    says, evidence = f"{ways} ways were followed, and none meets such a rule", Evidence(f"{ways} ways", "kpx trace")
    if unsure and not seen:
        yield told(
            f"{says}; {unsure} of them depend on a rule that cannot be evaluated, which kpx trace names", evidence
        )
    elif not seen:
        yield passed(says, evidence)


def _trouble(facts: Facts, walked: Walked, obstacle: Obstacle, *, sure: bool) -> Result:
    """A fault, where it is `sure`: else it may be meant, as a firewall that lets only some clients in."""
    verify = f"kpx trace {wanted_target(walked.frontend)} --from {walked.sender}"
    foreign = obstacle.trouble in _FOREIGN
    result = failed if sure or obstacle.trouble is not Trouble.FOREIGN_REFUSAL else warned
    return result(
        f"{walked.says}: {obstacle.trouble.value}{'' if foreign else f': {obstacle.says}'}",
        _evidence(obstacle, verify),
        subject=str(walked.port.port.service),
        fix=fixes.removal(facts, walked.family, obstacle.hop) if foreign else None,
        verify=verify,
    )


def _evidence(obstacle: Obstacle, verify: str) -> Evidence:
    """The rule that does it, or else how the way ends."""
    return Evidence(hop_text(obstacle.hop), place(obstacle.hop)) if obstacle.hop else Evidence(obstacle.says, verify)


_REFUSES = (Trouble.FOREIGN_REFUSAL,)
_WHY_REFUSED = "A firewall of the host is asked besides the proxy's rules, and its no counts, in whatever table it is."
_REMEDY_REFUSED = "Let the firewall pass what is forwarded to and from pods, and the node ports."


@check("KPX-FW-001", "no rule of others stops packets from pods to Services", why=_WHY_REFUSED, remedy=_REMEDY_REFUSED)
def refused_inside(facts: Facts, subject: Subject) -> Iterator[Result]:
    results = list(_look(facts, subject, _REFUSES, outside=False))
    found = [one for one in results if one.bad] or (list(_forwarded(facts, subject)) if facts.mode() == "ipvs" else [])
    yield from found or results


def _forwarded(facts: Facts, subject: Subject) -> Iterator[Result]:
    """What stops packets between pods: IPVS sends what goes to an endpoint itself, but its answer is forwarded."""
    for family, port, _ in samples(facts, subject, Kind.CLUSTER_IP):
        for one in port.reachable[:1]:
            target = Target(one.ip, one.port, port.port.protocol.lower())
            for obstacle in refused_by_others(facts.trace(target, "pod")):
                verify = f"kpx trace {target} --from pod"
                yield failed(
                    f"{target} from pod: {obstacle.trouble.value}",
                    _evidence(obstacle, verify),
                    subject=str(port.port.service),
                    fix=fixes.removal(facts, family, obstacle.hop),
                    verify=verify,
                )
                return


@check(
    "KPX-FW-002",
    "no rule of others stops packets from outside to Services",
    why=_WHY_REFUSED,
    remedy=_REMEDY_REFUSED,
)
def refused_outside(facts: Facts, subject: Subject) -> Iterator[Result]:
    yield from _look(facts, subject, _REFUSES, outside=True)


_ASTRAY = (Trouble.FOREIGN_TRANSLATION,)


@check(
    "KPX-FW-003",
    "no rule of others translates packets from pods to Services",
    why="The first rule that translates a flow decides it: a foreign one in front of the proxy's takes its packets.",
    remedy="Take that rule away, or make it match less.",
    settles=SETTLES,
)
def astray_inside(facts: Facts, subject: Subject) -> Iterator[Result]:
    yield from _look(facts, subject, _ASTRAY, outside=False)


@check(
    "KPX-FW-004",
    "no rule of others translates packets from outside to Services",
    why="The first rule that translates a flow decides it: a foreign one in front of the proxy's takes its packets.",
    remedy="Take that rule away, or make it match less.",
    settles=SETTLES,
)
def astray_outside(facts: Facts, subject: Subject) -> Iterator[Result]:
    yield from _look(facts, subject, _ASTRAY, outside=True)


_OWN = (Trouble.OWN_REFUSAL, Trouble.UNTRANSLATED, Trouble.WRONG_ENDPOINT)


@check(
    "KPX-IP-006",
    "the proxy's rules take packets from pods to an endpoint",
    why="This is what the rules really do with a packet, in their order, whatever each of them says by itself.",
    remedy="Where a rule is missing or of another mode, see the checks of the rules; `kpx trace` shows every hop.",
    settles=SETTLES,
)
def led_inside(facts: Facts, subject: Subject) -> Iterator[Result]:
    yield from _look(facts, subject, _OWN, outside=False)


@check(
    "KPX-NP-003",
    "the proxy's rules take packets from outside to an endpoint",
    why="This is what the rules really do with a packet, in their order, whatever each of them says by itself.",
    remedy="Where a rule is missing or of another mode, see the checks of the rules; `kpx trace` shows every hop.",
    settles=SETTLES,
)
def led_outside(facts: Facts, subject: Subject) -> Iterator[Result]:
    yield from _look(facts, subject, _OWN, outside=True)


@check(
    "KPX-KN-004",
    "the node has a route to the endpoints",
    why="After the translation a packet is routed as any other: without a route to the pod's network it ends here.",
    remedy="See to the routes of the pod network (the CNI plugin), and to the default route of the node.",
)
def routed(facts: Facts, subject: Subject) -> Iterator[Result]:
    yield from _look(facts, subject, (Trouble.NO_ROUTE,), outside=False)
