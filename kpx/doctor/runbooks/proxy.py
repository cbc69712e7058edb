"""Is a service proxy at work on this node, alone, and does it keep up?"""

from __future__ import annotations

from collections.abc import Iterator

from kpx.doctor import fixes
from kpx.doctor.check import check
from kpx.doctor.facts import Answer, Facts, NotKnown, RuleSet
from kpx.doctor.finding import Evidence, Fix, Place, Result, failed, passed, skipped, told, warned
from kpx.doctor.subject import Subject, wanted_is_known
from kpx.net import Family
from kpx.tools import stock

HEALTHZ_PORT = 10256
_PROCESSES = "/proc/*/cmdline"
_REFERENCE = "https://kubernetes.io/docs/reference/networking/virtual-ips/"


@check(
    "KPX-PX-001",
    "a service proxy runs on this node",
    why="Without one, the rules stay as they were: what is new is not reached, and what is gone still gets traffic.",
    remedy="Start the node's proxy, and look into its log for why it ended.",
)
def runs(facts: Facts, _: Subject) -> Iterator[Result]:
    found = facts.proxies()
    if found:
        yield passed(f"{', '.join(map(str, found))} runs", Evidence(", ".join(map(str, found)), _PROCESSES))
        return
    page, answer = _healthz(facts)
    if answer.status:
        says = "one answers; its process is part of another, or is not to be seen from here (hostPID)"
        yield passed(says, Evidence(_told(answer), page))
        return
    yield failed(
        "no service proxy runs in this network namespace",
        Evidence("no kube-proxy and no kpx daemon", _PROCESSES),
        Evidence(_told(answer), page),
        fix=fixes.restart(facts, "start the proxy"),
        verify="kpx doctor clusterip",
    )


_UNAVAILABLE = 503


def _healthz(facts: Facts) -> tuple[str, Answer]:
    """What the proxy says of its health, and where."""
    try:
        bound = facts.configuration().healthz_bind_address
    except NotKnown:
        bound = ""
    address, port = stock.reached(bound, HEALTHZ_PORT)
    return f"http://{address}:{port}/healthz", facts.get(port, "/healthz", address)


@check(
    "KPX-PX-002",
    "the proxy is healthy",
    why="A proxy that hangs or cannot sync leaves the rules as they were, and load balancers take its node away.",
    remedy="Let it go on if a signal holds it; else start it anew, and look into its log.",
)
def healthy(facts: Facts, _: Subject) -> Iterator[Result]:
    held = [one for one in facts.proxies() if one.stopped]
    for one in held:
        yield failed(
            f"{one} is stopped by a signal or a debugger: it does nothing",
            Evidence("state T (stopped)", f"/proc/{one.pid}/stat"),
            fix=Fix("let it go on", now=(("kill", "-CONT", str(one.pid)),), undo=(("kill", "-STOP", str(one.pid)),)),
            verify=f"curl -s http://127.0.0.1:{HEALTHZ_PORT}/healthz",
        )
    if held:
        return
    page, answer = _healthz(facts)
    if answer.status == 200:
        yield passed("/healthz says that it keeps up", Evidence(_told(answer), page))
    elif not answer.status and not facts.proxies():
        yield skipped("no proxy runs")
    elif _leaves(facts, page, answer):
        yield told(
            "/healthz tells load balancers to leave this node, which is about to go; the proxy keeps up",
            Evidence(_told(answer), page),
        )
    else:
        yield failed(
            "/healthz does not answer" if not answer.status else "/healthz says that it does not keep up",
            Evidence(_told(answer), page),
            *_errors(facts),
            fix=fixes.restart(facts, "start the proxy anew"),
            verify=f"curl -s {page}",
        )


def _leaves(facts: Facts, page: str, answer: Answer) -> bool:
    """Whether a node that is being deleted is why the proxy is not healthy: ``/livez`` looks past that."""
    address, _, port = page.removeprefix("http://").removesuffix("/healthz").rpartition(":")
    return answer.status == _UNAVAILABLE and facts.get(int(port), "/livez", address).status == 200


def _told(answer: Answer) -> str:
    return answer.error or f"{answer.status} {answer.body.strip()[:200]}"


def _errors(facts: Facts) -> list[Evidence]:
    status = facts.status()
    return (
        [Evidence(f"{one.family.value}: {one.error}", "the daemon's status") for one in status.families if one.error]
        if status
        else []
    )


@check(
    "KPX-PX-003",
    "no second proxy runs",
    why="Two proxies that program one node undo each other's work.",
    remedy="Keep one: remove the other's DaemonSet, or keep it off this node.",
)
def alone(facts: Facts, _: Subject) -> Iterator[Result]:
    found = facts.proxies()
    if len(found) < 2:
        yield passed("there is no other", Evidence(", ".join(map(str, found)) or "none", _PROCESSES))
        return
    yield failed(
        f"{len(found)} proxies run: {', '.join(map(str, found))}",
        Evidence(", ".join(map(str, found)), _PROCESSES),
        fix=fixes.by_hand(
            "remove the one that is not wanted, such as kube-proxy's DaemonSet",
            ("kubectl", "delete", "daemonset", "--namespace", "kube-system", "kube-proxy"),
        ),
    )


@check(
    "KPX-PX-004",
    "no rules of another mode are left",
    why="Rules that nobody keeps up to date still take packets: to endpoints that are gone, or to a refusal.",
    remedy="`kpx cleanup --keep kpx` (or what else is in force) removes exactly the rest of the rules, in place of "
    "`iptables-save | grep -v KUBE | iptables-restore`, which also drops what it does not understand.",
    links=(_REFERENCE,),
)
def leftovers(facts: Facts, _: Subject) -> Iterator[Result]:
    current = facts.current()
    found = [one for one in facts.rule_sets() if one.served]
    if not current:
        kinds = " and ".join(dict.fromkeys(one.kind for one in found))
        if len({one.kind for one in found}) < 2:
            yield skipped("nobody tells the proxy's mode")
        else:
            yield told(f"there are rules of {kinds}; no proxy says which are in force", *map(_set_evidence, found))
        return
    left = [one for one in found if one.kind != current]
    mine = [one for one in found if one.kind == current]
    if not left:
        yield passed(f"only {current} serves", *map(_set_evidence, mine))
        return
    kinds = " and ".join(dict.fromkeys(one.kind for one in left))
    yield failed(
        f"the proxy serves by {current}, but there are rules of {kinds}",
        *map(_set_evidence, left),
        fix=Fix(
            f"remove the rules of Services that are not of {current}", now=(("kpx", "cleanup", "--keep", current),)
        ),
        verify="kpx doctor sync",
    )


_SHOW = {
    "iptables-nft": "iptables-nft-save",
    "iptables-legacy": "iptables-legacy-save",
    "ipvs": "ipvsadm -Ln",
    "kpx": "nft list table {} kpx",
    "kube-proxy": "nft list table {} kube-proxy",
}


def shown_by(one: RuleSet) -> str:
    """The command that shows a set of rules."""
    command = _SHOW[one.kind].format("ip" if one.family is Family.IPV4 else "ip6")
    ipv6 = one.kind.startswith("iptables") and one.family is Family.IPV6
    return f"ip6{command.removeprefix('ip')}" if ipv6 else command


def _set_evidence(one: RuleSet) -> Evidence:
    return Evidence(f"{one.kind}, {one.family.value}: {one.served} of single Services", shown_by(one))


@check(
    "KPX-PX-005",
    "the cluster knows this node by the proxy's name for it",
    why="Endpoints count as local by the node's name: under a wrong one, the policy Local drops everything.",
    remedy="Give the proxy the Node's name: --hostname-override, from spec.nodeName.",
)
def node_name(facts: Facts, _: Subject) -> Iterator[Result]:
    cluster = facts.cluster()
    wrong = [note for note in cluster.notes if "has no Node" in note]
    if not wanted_is_known(facts):
        yield skipped("the cluster cannot be asked")
    elif wrong:
        keep = ("kube-proxy --hostname-override=$(NODE_NAME) ...",)
        fix = Fix("name the node as the cluster does", keep=keep, place=Place.BY_HAND)
        yield failed(wrong[0], Evidence(cluster.node, cluster.origin), fix=fix)
    else:
        yield passed(f"this node is {cluster.node}", Evidence(cluster.node, cluster.origin))


@check(
    "KPX-PX-006",
    "the last syncs succeeded",
    why="What could not be programmed is served as it was before, or not at all.",
    remedy="The error names what the kernel or the program refused.",
)
def sync_errors(facts: Facts, _: Subject) -> Iterator[Result]:
    status = facts.status()
    if status is None:
        yield from _failures_counted(facts)
        return
    for family in status.families:
        if family.error:
            yield failed(
                f"the {family.family.value} rules are not as they should be",
                Evidence(family.error, "the daemon's status, /run/kpx/kpx.sock"),
                fix=fixes.restart(facts),
            )
    if not any(family.error for family in status.families):
        past = [one for one in facts.syncs().syncs if one.error]
        says = (
            f"they did; {len(past)} of the last {len(facts.syncs().syncs)} failed and were made good"
            if past
            else "they did"
        )
        evidence = [Evidence(f"{one.family.value} {one.ended}: {one.error}", "the daemon's syncs") for one in past[:3]]
        latest = [Evidence(f"{one.family.value}: {one.last_success}", "the daemon's status") for one in status.families]
        yield (told if past else passed)(says, *latest, *evidence)


_FAILURES = (
    "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
    "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
    "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
    "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total",
)


def _failures_counted(facts: Facts) -> Iterator[Result]:
    metrics = facts.metrics()
    counted = {name: sum(value for _, value in metrics.get(name, [])) for name in _FAILURES}
    evidence = [Evidence(f"{name} {value:g}", "the proxy's /metrics") for name, value in counted.items() if value]
    if evidence:
        log = ("kubectl", "logs", "--namespace", "kube-system", "--selector", "k8s-app=kube-proxy", "--tail", "100")
        fix = fixes.by_hand("read why in the proxy's log", log)
        yield warned("some syncs have failed since the proxy started", *evidence, fix=fix)
    else:
        yield passed("no sync has failed since the proxy started", Evidence("0 failures", "the proxy's /metrics"))


@check(
    "KPX-PX-007",
    "nothing is left out, and every address is its Service's own",
    why="An object that cannot be used is left out, and of two Services with one address the older one gets it.",
    remedy="Mend the object, or give one of the Services another address.",
)
def left_out(facts: Facts, subject: Subject) -> Iterator[Result]:
    listed = facts.rejected()
    wanted = subject.text.partition(":")[0].removeprefix("svc/")

    def about(namespace: str, name: str) -> bool:
        return not wanted or wanted in (name, f"{namespace}/{name}")

    bad = False
    for one in listed.rejected:
        if about(one.namespace, one.name):
            bad = True
            name = f"{one.namespace}/{one.name}"
            edit = ("kubectl", "edit", one.kind.lower(), "--namespace", one.namespace, one.name)
            yield failed(
                f"{one.kind} {name} is left out",
                Evidence(one.reason, "the daemon's rejected objects"),
                subject=name,
                fix=fixes.by_hand("mend the object", edit),
            )
    for lost in listed.conflicts:
        namespace, _, rest = lost.service_port.partition("/")
        if about(namespace, rest.partition(":")[0]):
            bad = True
            where = f"{lost.address or 'node port'}:{lost.port}/{lost.protocol}"
            yield failed(
                f"{lost.service_port} does not get {where}: the older {lost.owner} has it",
                Evidence(f"{where} is {lost.owner}'s", "the daemon's conflicts"),
                subject=f"{namespace}/{rest.partition(':')[0]}",
                fix=fixes.by_hand(
                    "give one of the two another address or node port; for another cluster IP it has to be made anew",
                    ("kubectl", "edit", "service", "--namespace", namespace, rest.partition(":")[0]),
                ),
            )
    if not bad:
        yield passed("all objects are used as they are", Evidence("none", "the daemon's rejected objects"))
