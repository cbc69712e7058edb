"""The policies Local: what they need on a node, and what tells load balancers so."""

from __future__ import annotations

from collections.abc import Iterator

from kpx.doctor import fixes
from kpx.doctor.check import check
from kpx.doctor.facts import Facts, NotKnown, wanted_target
from kpx.doctor.finding import Evidence, Fix, Result, failed, passed, skipped, told
from kpx.doctor.subject import Subject, ports
from kpx.doctor.way import answers, hop_text, place, refused_by_others
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Scope, Verdict
from kpx.trace.result import Verdict as Sent
from kpx.trace.target import Target

_MOST = 5


def policy_patch(namespace: str, name: str, policy: Scope) -> tuple[str, ...]:
    """The command that gives a Service another external policy."""
    change = f'{{"spec":{{"externalTrafficPolicy":"{policy.value}"}}}}'
    return ("kubectl", "patch", "service", "--namespace", namespace, name, "--patch", change)


@check(
    "KPX-NP-007",
    "with the policy Local, an endpoint is on this node",
    why="The policy Local keeps the client's address, at the price that a node without an endpoint drops its packets.",
    remedy="Run an endpoint here, let the load balancer's health check keep clients away, or set it to Cluster.",
)
def local(facts: Facts, subject: Subject) -> Iterator[Result]:
    lost: dict[str, list[str]] = {}
    names: dict[str, tuple[str, str]] = {}
    policies = 0
    for _, one in ports(facts, subject):
        for frontend in one.frontends:
            if not frontend.external or frontend.scope is not Scope.LOCAL:
                continue
            policies += 1
            if frontend.verdict is Verdict.DROP:
                elsewhere = [str(each) for each in one.endpoints if each.ready]
                lost.setdefault(str(one.port.service), []).extend(elsewhere)
                names[str(one.port.service)] = (one.port.namespace, one.port.name)
    if not policies:
        yield skipped("no Service with externalTrafficPolicy: Local")
    elif not lost:
        yield passed("an endpoint is here", Evidence(f"{policies} addresses", facts.cluster().origin))
    for service, elsewhere in sorted(lost.items()):
        namespace, name = names[service]
        patch = policy_patch(namespace, name, Scope.CLUSTER)
        evidence = Evidence(f"endpoints elsewhere: {', '.join(sorted(set(elsewhere))[:_MOST])}", facts.cluster().origin)
        fix = fixes.by_hand("run an endpoint on this node, or give the client's address up for any node", patch)
        says = "clients that come to this node are dropped: no endpoint is here, and the policy is Local"
        if subject.named:
            yield failed(says, evidence, subject=service, fix=fix, verify=f"kpx services {service} -o wide")
        else:
            yield told(says, evidence, subject=service, fix=fix)


@check(
    "KPX-NP-008",
    "the health-check node port answers, to the load balancer too",
    why="Load balancers ask it which nodes have an endpoint: where it is closed they send nobody here.",
    remedy="Free the port for the proxy, and let the firewall pass it.",
)
def health_check(facts: Facts, subject: Subject) -> Iterator[Result]:
    checked = {
        one.health_check_port: one
        for family, one in ports(facts, subject)
        if one.health_check_port and family is Family.IPV4
    }
    if not checked:
        raise NotKnown("no Service has a health-check node port (type LoadBalancer, policy Local)")
    bad = False
    for port, one in checked.items():
        assert port
        for result in _health_check(facts, port, one):
            bad = True
            yield result
    if not bad:
        listed = ", ".join(map(str, list(checked)[:_MOST]))
        yield passed("it says how many endpoints are here", Evidence(f"ports {listed}", "http://NODE:PORT/healthz"))


def _health_check(facts: Facts, port: int, one: Frontends) -> Iterator[Result]:
    """What is wrong with one: a firewall in front of it, or what answers."""
    service, own = str(one.port.service), facts.main_address(Family.IPV4)
    refused = refused_by_others(facts.trace(Target(own, port, "tcp"), "external")) if own else []
    for obstacle in refused[:1]:
        assert obstacle.hop
        yield failed(
            f"port {port} is closed to load balancers: {obstacle.trouble.value}",
            Evidence(hop_text(obstacle.hop), place(obstacle.hop)),
            subject=service,
            fix=fixes.removal(facts, Family.IPV4, obstacle.hop),
            verify=f"kpx trace {own}:{port} --from external",
        )
    if not refused:
        yield from _health_answer(facts, own or "127.0.0.1", port, one)


def _health_answer(facts: Facts, own: str, port: int, one: Frontends) -> Iterator[Result]:
    answer = facts.get(port, "/healthz", own)
    local = sum(each.local and each.ready for each in one.endpoints)
    if answer.status == (200 if local else 503) and "localEndpoints" in answer.body:
        return
    proxies = {each.pid for each in facts.proxies()}
    holders = [each for each in facts.listeners("tcp", port) if each.pid not in proxies]
    end = (("kill", str(each.pid)) for each in holders)
    page = f"http://{own}:{port}/healthz"
    yield failed(
        f"port {port} does not answer as the proxy would ({local} endpoints are here)",
        Evidence(answer.error or f"{answer.status} {answer.body[:100]}", page),
        *(Evidence(f"{each.name}[{each.pid}]", f"/proc/net/tcp: {each.what}") for each in holders),
        subject=str(one.port.service),
        fix=Fix("end the process that has the port", tuple(end), foreign=True) if holders else fixes.restart(facts),
        verify=f"curl -s {page}",
    )


@check(
    "KPX-NP-009",
    "whom loadBalancerSourceRanges leave out",
    why="They count for pods and nodes too: a client in the cluster that uses the load balancer's address is dropped.",
    remedy="Add the pods' and the nodes' networks to loadBalancerSourceRanges, or let pods use the cluster IP.",
    links=("https://github.com/kubernetes/kubernetes/issues/109575",),
)
def sources(facts: Facts, subject: Subject) -> Iterator[Result]:
    limited = [
        (one, frontend)
        for family, one in ports(facts, subject)
        for frontend in one.frontends
        if frontend.sources and family is Family.IPV4
    ]
    if not limited:
        yield skipped("no Service has loadBalancerSourceRanges")
    for one, frontend in limited[:_MOST]:
        trace = facts.trace(wanted_target(frontend), "pod")
        lost = any(branch.ending.verdict not in (Sent.SENT, Sent.DELIVERED) for branch in trace.branches)
        who = f"a pod such as {trace.sender.address}"
        yield told(
            f"{answers(frontend)}: {who} is {'dropped' if lost else 'let in'}",
            Evidence(", ".join(frontend.sources), f"loadBalancerSourceRanges, {facts.cluster().origin}"),
            subject=str(one.port.service),
        )
