"""Runbook 4: the application sees an address of the node in place of its client's."""

from __future__ import annotations

from collections.abc import Iterator

from kpx.doctor import fixes
from kpx.doctor.check import SETTLES, Runbook, check
from kpx.doctor.facts import Facts, NotKnown, wanted_target
from kpx.doctor.finding import Evidence, Fix, Result, failed, passed, skipped, told, warned
from kpx.doctor.runbooks import policies, proxy
from kpx.doctor.runbooks.packets import Walked, walks
from kpx.doctor.subject import Subject, ports
from kpx.doctor.way import Seen, answers, hop_text, place, seen
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Kind, Masquerade, Scope, Verdict

_MOST = 5


def _looked_at(facts: Facts, subject: Subject) -> Iterator[Walked]:
    none = True
    for outside in (False, True):
        try:
            for walked in walks(facts, subject, outside=outside):
                none = False
                yield walked
        except NotKnown:
            continue
    if none:
        raise NotKnown("there is no way to follow")


def _keeps(walked: Walked) -> bool | None:
    """Whether the endpoint should see the sender's own address; None where that is left open."""
    masquerade = walked.frontend.masquerade
    if walked.sender == "external":
        return masquerade in (Masquerade.NODE, Masquerade.NEVER)
    return None if masquerade is Masquerade.ALWAYS else True


@check(
    "KPX-SI-001",
    "as whom endpoints see each class of clients",
    why="The policy Cluster hides a client from outside behind the node, so that answers come back the same way.",
    remedy="externalTrafficPolicy: Local keeps the client's address, for endpoints on the node that it comes to.",
)
def shown(facts: Facts, subject: Subject) -> Iterator[Result]:
    for walked in _looked_at(facts, subject):
        for one in seen(walked.trace, walked.trace.sender.address)[:1]:
            who = walked.trace.sender
            says = f"{answers(walked.frontend)} from {walked.sender} {who.address}: seen as {one.source}"
            where = (
                Evidence(hop_text(one.hop), place(one.hop)) if one.hop else Evidence("no rule hides it", "kpx trace")
            )
            policy = Evidence(walked.frontend.scope.value, f"{_field(walked)}, {facts.cluster().origin}")
            yield told(says, where, policy, subject=str(walked.port.port.service), fix=_patch(walked, kept=one.kept))


def _field(walked: Walked) -> str:
    return "externalTrafficPolicy" if walked.frontend.external else "internalTrafficPolicy"


def _patch(walked: Walked, *, kept: bool) -> Fix | None:
    """The policy Local, for those who need the client's address."""
    if kept or walked.sender != "external" or walked.frontend.scope is Scope.LOCAL:
        return None
    port = walked.port.port
    patch = policies.policy_patch(port.namespace, port.name, Scope.LOCAL)
    return fixes.by_hand("if the application needs the client's address: let only endpoints here answer", patch)


@check(
    "KPX-SI-002",
    "no client's address is hidden that the Service keeps",
    why="A rule of others that masquerades as well takes away what the policy Local is there for.",
    remedy="Leave traffic to pods out of that rule.",
)
def hidden(facts: Facts, subject: Subject) -> Iterator[Result]:
    by_rule: dict[str, list[tuple[Walked, Seen]]] = {}
    looked = 0
    for walked in _looked_at(facts, subject):
        sender = walked.trace.sender.address
        for one in seen(walked.trace, sender):
            looked += 1
            if _keeps(walked) and not one.kept and one.destination != sender:
                by_rule.setdefault(f"{place(one.hop)} {one.hop.rule}" if one.hop else "", []).append((walked, one))
    for some in by_rule.values():
        yield _hidden(facts, some)
    if not by_rule:
        yield passed(f"{looked} ways were followed: those that keep it do", Evidence(f"{looked} ways", "kpx trace"))


def _hidden(facts: Facts, some: list[tuple[Walked, Seen]]) -> Result:
    """Clients whom one rule hides."""
    walked, first = some[0]
    hop = first.hop
    verify = f"kpx trace {wanted_target(walked.frontend)} --from {walked.sender}"
    ways = ", ".join(dict.fromkeys(f"{answers(one.frontend)} from {one.sender}" for one, _ in some))
    return failed(
        f"{ways}: hidden behind {first.source}, though it should be kept",
        Evidence(hop_text(hop), place(hop)) if hop else Evidence(first.source, verify),
        subject=str(walked.port.port.service),
        fix=fixes.removal(facts, walked.family, hop) if first.foreign else None,
        verify=verify,
    )


@check(
    "KPX-SI-003",
    "clients are masqueraded where their answers would go astray",
    why="With the policy Cluster the answer of an endpoint elsewhere must come back through this node.",
    remedy="The proxy's rules for masquerading are gone or are not reached: start it anew.",
    settles=SETTLES,
)
def masqueraded(facts: Facts, subject: Subject) -> Iterator[Result]:
    bad, looked = False, 0
    for walked in walks(facts, subject, outside=True):
        if walked.frontend.masquerade is not Masquerade.ALWAYS:
            continue
        for one in seen(walked.trace, walked.trace.sender.address):
            looked += 1
            if one.kept:
                bad = True
                verify = f"kpx trace {wanted_target(walked.frontend)} --from external"
                yield failed(
                    f"{answers(walked.frontend)} from outside is not masqueraded on its way to {one.destination}",
                    Evidence(f"the endpoint sees {one.source}", verify),
                    subject=str(walked.port.port.service),
                    fix=fixes.restart(facts),
                    verify=verify,
                )
                break
    if not looked:
        yield skipped("no address masquerades clients from outside")
    elif not bad:
        yield passed(f"{looked} ways were followed, and all are", Evidence(f"{looked} ways", "kpx trace"))


@check(
    "KPX-IP-010",
    "a pod reaches itself through its Service",
    why="A pod that is its own endpoint would see its own address as client, and answer past the rules.",
    remedy="The proxy's rule for this is gone: start it anew.",
)
def hairpin(facts: Facts, subject: Subject) -> Iterator[Result]:
    for family, one in ports(facts, subject):
        own = next((each for each in one.reachable if each.local), None)
        frontend = next((f for f in one.frontends if f.kind is Kind.CLUSTER_IP and f.verdict is Verdict.FORWARD), None)
        if own is None or frontend is None or family is not Family.IPV4:
            continue
        trace = facts.trace(wanted_target(frontend, str(one.port)), own.ip)
        kept = [each for each in seen(trace, own.ip) if each.destination == own.ip and each.kept]
        verify = f"kpx trace {wanted_target(frontend)} --from {own.ip}"
        if kept:
            yield failed(
                f"{own} sees itself as its client: its answer passes the rules by",
                Evidence(f"source {own.ip}, destination {own.ip}", verify),
                subject=str(one.port.service),
                fix=fixes.restart(facts),
                verify=verify,
            )
        else:
            yield passed(
                f"{own} to itself is masqueraded", Evidence("another source", verify), subject=str(one.port.service)
            )
        return
    raise NotKnown("no endpoint is on this node")


@check(
    "KPX-SI-004",
    "where the endpoints are, for the policies Local",
    why="With a policy Local only the nodes with an endpoint answer: load balancers know them by their health check.",
    remedy="Spread the endpoints over the nodes that get traffic (topologySpreadConstraints, a DaemonSet).",
)
def nodes(facts: Facts, subject: Subject) -> Iterator[Result]:
    policies = [(family, one) for family, one in ports(facts, subject) if _local(one)]
    if not policies:
        yield skipped("no Service has a policy Local")
    for family, one in policies[:_MOST]:
        here, elsewhere = (
            [str(each) for each in one.endpoints if each.ready and each.local is at] for at in (True, False)
        )
        origin = facts.cluster().origin
        yield told(
            f"{one.port} ({family.value}): {len(here)} here, {len(elsewhere)} elsewhere",
            Evidence(f"here: {', '.join(here[:_MOST]) or 'none'}", origin),
            Evidence(f"elsewhere: {', '.join(elsewhere[:_MOST]) or 'none'}", origin),
            subject=str(one.port.service),
        )


def _local(one: Frontends) -> bool:
    return Scope.LOCAL in (one.internal_scope, one.external_scope)


@check(
    "KPX-SI-005",
    "the policy Local inside the cluster leaves nobody without an answer",
    why="internalTrafficPolicy: Local keeps traffic on the node; pods of a node without an endpoint are dropped.",
    remedy="Run an endpoint on every node that has clients (a DaemonSet), or use trafficDistribution: PreferSameNode.",
)
def internal(facts: Facts, subject: Subject) -> Iterator[Result]:
    lost = False
    policies = 0
    for _, one in ports(facts, subject):
        for frontend in one.frontends:
            if frontend.kind is Kind.CLUSTER_IP and frontend.scope is Scope.LOCAL:
                policies += 1
                if frontend.verdict is Verdict.DROP:
                    lost = True
                    says = f"{answers(frontend)}: pods of this node are dropped: no endpoint is here"
                    yield (failed if subject.named else told)(
                        says,
                        Evidence("internalTrafficPolicy Local", facts.cluster().origin),
                        subject=str(one.port.service),
                    )
    if not policies:
        yield skipped("no Service has internalTrafficPolicy: Local")
    elif not lost:
        yield passed("an endpoint is here", Evidence(f"{policies} addresses", facts.cluster().origin))


@check(
    "KPX-SI-006",
    "the proxy tells traffic of pods from other traffic, and masquerades no more than it must",
    why="Without clusterCIDR nothing counts as from outside; with masqueradeAll every client is hidden.",
    remedy="Set clusterCIDR (or detectLocalMode), and masqueradeAll to false.",
)
def detection(facts: Facts, _: Subject) -> Iterator[Result]:
    config = facts.configuration()
    where = "the proxy's configuration"
    if config.masquerade_all:
        edit = ("kubectl", "edit", "configmap", "--namespace", "kube-system", "kube-proxy")
        fix = fixes.by_hand("set masqueradeAll to false", edit)
        yield warned(
            "masqueradeAll hides every client behind the node", Evidence("masqueradeAll: true", where), fix=fix
        )
    elif not config.pods_known:
        says = "no clusterCIDR is set: clients from outside that use a cluster IP are not masqueraded"
        yield told(says, Evidence("clusterCIDR is empty", where))
    else:
        how = f"clusterCIDR {config.cluster_cidr or '-'}, detectLocalMode {config.detect_local_mode or 'ClusterCIDR'}"
        yield passed("it does", Evidence(how, where))


RUNBOOK = Runbook(
    "source-ip",
    "the client's address is lost",
    (shown, hidden, masqueraded, nodes, policies.local, policies.health_check, internal, detection, proxy.node_name),
)
