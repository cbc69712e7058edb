"""Is there a Service, does anybody answer for it, and do they when they are asked directly?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpx.doctor import fixes
from kpx.doctor.check import check
from kpx.doctor.facts import Call, Facts, NotKnown, Outcome, Reach
from kpx.doctor.finding import Evidence, Fix, Result, failed, passed, skipped, told, warned
from kpx.doctor.subject import Subject, ports, service, wanted_is_known
from kpx.net import Family, join_port
from kpx.proxier.frontends import Endpoint, Kind, ServiceName, Verdict
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Port

_MOST_NAMED, _MOST_TRIED = 5, 6


@check(
    "KPX-IP-001",
    "the Service exists, and a proxy serves it",
    why="A headless Service, one of type ExternalName or one of another proxy has no rules: names of DNS lead to it.",
    remedy="Look for the name in other namespaces; a Service without a cluster IP is reached by DNS.",
)
def exists(facts: Facts, subject: Subject) -> Iterator[Result]:
    cluster = facts.cluster()
    if not cluster.ports:
        raise NotKnown("; ".join(cluster.notes) or "there are no Services")
    if not subject.named:
        services = len(cluster.services)
        yield passed(f"{services} Services are served", Evidence(str(services), cluster.origin))
        return
    try:
        found, named = cluster.find(subject.text, subject.namespace)
    except ToolError as error:
        yield failed(str(error), Evidence(str(error), cluster.origin), subject=subject.text)
        return
    addresses = sorted({one.address or "node port" for _, each in ports(facts, subject) for one in each.frontends})
    yield passed(f"{len(named)} ports are served", Evidence(", ".join(addresses), cluster.origin), subject=str(found))


def _slices(name: ServiceName) -> tuple[str, ...]:
    label = f"kubernetes.io/service-name={name.name}"
    return ("kubectl", "get", "endpointslices", "--namespace", name.namespace, "--selector", label, "--output", "wide")


def _select(name: ServiceName, says: str) -> Fix:
    edit = ("kubectl", "edit", "service", "--namespace", name.namespace, name.name)
    return fixes.by_hand(says, _slices(name), edit)


def _services(facts: Facts, subject: Subject) -> dict[ServiceName, list[Port]]:
    found: dict[ServiceName, list[Port]] = {}
    for port in ports(facts, subject):
        found.setdefault(port[1].port.service, []).append(port)
    return found


@check(
    "KPX-IP-002",
    "the Service has endpoints: its selector matches pods",
    why="Without endpoints there is nowhere to send a packet to: it is refused.",
    remedy="Compare the Service's selector with the pods' labels, and targetPort's name with the pods' ports.",
)
def present(facts: Facts, subject: Subject) -> Iterator[Result]:
    if not wanted_is_known(facts):
        yield skipped("what the cluster wants is not known")
        return
    grouped = _services(facts, subject)
    empty = [name for name, found in grouped.items() if not any(one.endpoints for _, one in found)]
    for name in empty if subject.named else ():
        yield failed(
            f"{name} has no endpoints",
            Evidence("no address in its EndpointSlices", facts.cluster().origin),
            subject=str(name),
            fix=_select(name, "let the Service's selector match its pods, or start such pods"),
            verify=" ".join(_slices(name)),
        )
    if not empty:
        yield passed("there are endpoints", Evidence(_counted(grouped), facts.cluster().origin))
    elif not subject.named:
        listed = ", ".join(map(str, sorted(empty)[:_MOST_NAMED]))
        yield told(
            f"{len(empty)} of {len(grouped)} Services have no endpoints", Evidence(listed, facts.cluster().origin)
        )


def _counted(grouped: dict[ServiceName, list[Port]]) -> str:
    return f"{sum(len(one.endpoints) for found in grouped.values() for _, one in found)} endpoints"


@check(
    "KPX-IP-003",
    "some endpoints are ready",
    why="Only ready endpoints get traffic, or those that still serve while they end.",
    remedy="Look into the readiness probes of the pods.",
)
def ready(facts: Facts, subject: Subject) -> Iterator[Result]:
    if not wanted_is_known(facts):
        yield skipped("what the cluster wants is not known")
        return
    bad = False
    for name, found in _services(facts, subject).items():
        several = [one for _, port in found for one in port.endpoints]
        if several and not any(port.has_endpoints for _, port in found):
            bad = True
            states = ", ".join(f"{one} {_state(one)}" for one in several[:_MOST_NAMED])
            pods = ("kubectl", "get", "pods", "--namespace", name.namespace, "--output", "wide")
            yield (failed if subject.named else warned)(
                f"none of {name}'s {len(several)} endpoints is ready",
                Evidence(states, facts.cluster().origin),
                subject=str(name),
                fix=fixes.by_hand("let the pods become ready", pods),
                verify=" ".join(_slices(name)),
            )
    if not bad:
        yield passed("where there are endpoints, some are ready", Evidence("ready", facts.cluster().origin))


def _state(one: Endpoint) -> str:
    return "terminating" if one.terminating else "ready" if one.ready else "not ready"


# Asking.


def _sender(facts: Facts, family: Family, avoid: str = "") -> str:
    """A pod of this node to ask from, if there is one in reach; empty for the node itself."""
    try:
        pods = [one for one in facts.pods() if (":" in one) == (family is Family.IPV6)]
    except (OSError, ToolError):
        pods = []
    return next((one for one in pods if one != avoid), pods[0] if pods else "")


def _tried(subject: Subject) -> None:
    if not subject.named:
        raise NotKnown("connections are tried for a Service that is named: kpx doctor clusterip NAMESPACE/NAME")


@check(
    "KPX-IP-007",
    "each endpoint answers when it is asked directly, past the Service",
    why="An endpoint that does not answer itself cannot answer through the Service: then it is not the proxy's fault.",
    remedy="Refused: nothing listens there (targetPort, or the process). No answer: the pod, its network or a policy.",
)
def directly(facts: Facts, subject: Subject) -> Iterator[Result]:
    _tried(subject)
    name = service(facts, subject)
    asked = [
        (one, Call(_sender(facts, family, one.ip), port.port.protocol.lower(), one.ip, one.port))
        for family, port in ports(facts, subject)
        for one in port.reachable[:_MOST_TRIED]
    ]
    if not asked:
        raise NotKnown("there is no endpoint to ask")
    reached = facts.connect([call for _, call in asked])
    silent = [(one, reach) for (one, _), reach in zip(asked, reached, strict=True) if not reach.through]
    for outcome in dict.fromkeys(reach.outcome for _, reach in silent):
        yield _no_answer(name, [(one, reach) for one, reach in silent if reach.outcome is outcome], len(asked))
    if not silent:
        yield answered(f"{len(asked)} endpoints were asked", reached, str(name))


def answered(says: str, reached: Sequence[Reach], subject: str) -> Result:
    """All of it may have got through; of datagrams that nobody answers it is not known."""
    unanswered = sum(one.outcome is Outcome.SILENT for one in reached)
    evidence = Evidence(f"{len(reached) - unanswered} of {len(reached)} answered", "connect()")
    if unanswered:
        says = f"{says}; {unanswered} did not answer a datagram, and may not have got it"
        return told(says, evidence, subject=subject)
    return passed(says, evidence, subject=subject)


def _no_answer(name: ServiceName, silent: list[tuple[Endpoint, Reach]], asked: int) -> Result:
    """Endpoints that are silent in one way."""
    first, outcome = silent[0][0], silent[0][1].outcome
    refused = outcome is Outcome.REFUSED
    listening = f"let targetPort be a port that the pods listen on (now {first.port}), or start what should listen"
    alive = "look at the pods, their network, and what NetworkPolicy allows"
    pods = ("kubectl", "get", "pods", "--namespace", name.namespace, "--output", "wide")
    edit = ("kubectl", "edit", "service", "--namespace", name.namespace, name.name)
    return failed(
        f"{len(silent)} of {asked} endpoints {'refuse: nothing listens there' if refused else 'do not answer'}",
        *(
            Evidence(f"{reach.outcome.value} {reach.detail}".strip(), f"connect() to {one} from {reach.sender}")
            for one, reach in silent
        ),
        subject=str(name),
        fix=fixes.by_hand(listening, pods, edit) if refused else fixes.by_hand(alive, pods),
        verify=f"curl -sv --max-time 2 {join_port(first.ip, first.port)}",
    )


@check(
    "KPX-IP-008",
    "the Service answers through its cluster IP, from a pod and from the node",
    why="Where the endpoints answer directly and the Service does not, it is the rules, or the way back.",
    remedy="See the failed checks of the rules; `kpx trace` shows the packet's way.",
)
def through(facts: Facts, subject: Subject) -> Iterator[Result]:
    _tried(subject)
    name = service(facts, subject)
    calls = [
        Call(sender, frontend.protocol.lower(), frontend.address or "", frontend.port)
        for family, port in ports(facts, subject)
        for frontend in port.frontends
        if frontend.kind is Kind.CLUSTER_IP and frontend.verdict is Verdict.FORWARD
        for sender in dict.fromkeys((_sender(facts, family), ""))
    ]
    if not calls:
        raise NotKnown("it has no cluster IP that anybody could answer")
    reached = facts.connect(calls)
    lost = [(call, reach) for call, reach in zip(calls, reached, strict=True) if not reach.through]
    for call, reach in lost:
        target = f"{join_port(call.address, call.port)}/{call.protocol}"
        yield failed(
            f"{target} gives {reach.sender} {reach.outcome.value}",
            Evidence(f"{reach.outcome.value} {reach.detail}".strip(), f"connect() from {reach.sender}"),
            subject=str(name),
            verify=f"kpx trace {target} --from {call.sender or 'node'}",
        )
    if not lost:
        yield answered(f"{len(calls)} connections were tried", reached, str(name))
