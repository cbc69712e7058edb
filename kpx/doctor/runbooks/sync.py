"""Runbook 3: the rules lag behind what the cluster says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

from kpx.config.duration import Duration
from kpx.doctor import fixes
from kpx.doctor.check import Runbook, check
from kpx.doctor.facts import Facts
from kpx.doctor.finding import Evidence, Fix, Result, Status, failed, passed, skipped, told, warned
from kpx.doctor.runbooks import proxy
from kpx.doctor.subject import Subject

_MANY_RULES, _MANY_SERVICES = 10_000, 1_000
_NOTICE, _ALERT, _ACT = 1.0, 5.0, 10.0  # seconds, of the 99th percentile
_TOP = 5
_BUCKETS = "kubeproxy_sync_proxy_rules_duration_seconds_bucket"
_QUEUED = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"
_SYNCED = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
_LAG = 30.0  # seconds
_METRICS = "the proxy's /metrics"


@check(
    "KPX-SY-001",
    "how many rules there are",
    why="In mode iptables a packet is compared with one rule after the other, and a sync handles all of them.",
    remedy="Mode nftables looks addresses up in maps: its cost does not grow with the number of Services.",
)
def rules(facts: Facts, _: Subject) -> Iterator[Result]:
    sets = [one for one in facts.rule_sets() if one.rules]
    evidence = [
        Evidence(
            f"{one.kind}, {one.family.value}: {one.rules} in all, {one.own} of a service proxy", proxy.shown_by(one)
        )
        for one in sets
    ]
    most = max((one.own for one in sets if one.kind.startswith("iptables")), default=0)
    if most > _MANY_RULES:
        yield warned(f"{most} rules of iptables are many", *evidence, fix=_other_mode(facts))
    else:
        yield passed(f"{sum(one.rules for one in sets)} rules, servers and elements", *evidence)


def _other_mode(facts: Facts) -> Fix:
    edit = ("kubectl", "edit", "configmap", "--namespace", "kube-system", "kube-proxy")
    del facts
    return fixes.by_hand(
        "set mode: nftables (Linux 5.13 or later): a change costs milliseconds at any number of Services; "
        "ipvs does that too, but is deprecated since 1.35. Then start the proxies anew, and run `kpx doctor sync`",
        edit,
        ("kubectl", "rollout", "restart", "daemonset", "--namespace", "kube-system", "kube-proxy"),
    )


@check(
    "KPX-SY-002",
    "syncs are quick",
    why="While a sync runs, the next change waits. 99 of 100 should take under 1 s; alert at 5 s, act at 10 s.",
    remedy="A longer minSyncPeriod merges changes; mode nftables makes each cheap.",
)
def durations(facts: Facts, _: Subject) -> Iterator[Result]:
    slowest = _percentile(facts.metrics(), 0.99)
    if slowest is None:
        yield skipped("no sync was measured yet")
        return
    evidence = [Evidence(f"p99 at most {slowest:g} s since its start", f"{_METRICS}, {_BUCKETS}"), *_phases(facts)]
    if slowest <= _NOTICE:
        yield passed(f"99 of 100 take at most {slowest:g} s", *evidence)
        return
    status = Status.FAIL if slowest > _ACT else Status.WARN if slowest > _ALERT else Status.INFO
    yield Result(status, f"99 of 100 take at most {slowest:g} s", tuple(evidence), fix=_other_mode(facts))


def _phases(facts: Facts) -> Iterator[Evidence]:
    """What the last syncs spent their time on, if the daemon tells: programs that write, or our own work."""
    spent: Counter[str] = Counter()
    for one in facts.syncs().syncs:
        spent.update(one.phases)
    if total := sum(spent.values()):
        shares = ", ".join(f"{name} {share / total:.0%}" for name, share in spent.items())
        yield Evidence(f"of the time of the last syncs: {shares}", "what the daemon tells of each sync")


def _percentile(metrics: Mapping[str, list[tuple[Mapping[str, str], float]]], wanted: float) -> float | None:
    """An upper bound of a percentile over both families; infinite beyond the last bucket, None without any sync."""
    counted: dict[float, float] = {}
    for labels, value in metrics.get(_BUCKETS, []):
        edge = float(labels["le"].replace("+Inf", "inf"))
        counted[edge] = counted.get(edge, 0.0) + value
    total = counted.get(math.inf, 0.0)
    return next((edge for edge in sorted(counted) if counted[edge] >= wanted * total), None) if total else None


@check(
    "KPX-SY-003",
    "no change waits to be programmed",
    why="A change that waits is one that clients do not see: new pods without traffic, gone ones with some.",
    remedy="Look at what the sync waits for: the xtables lock, the API server, a program that hangs.",
)
def lag(facts: Facts, _: Subject) -> Iterator[Result]:
    metrics = facts.metrics()
    behind = {}
    for labels, queued in metrics.get(_QUEUED, []):
        family = labels.get("ip_family", "")
        synced = [value for other, value in metrics.get(_SYNCED, []) if other.get("ip_family", "") == family]
        if synced and queued > synced[0]:
            behind[family] = max(facts.clock() - queued, 0.0)
    evidence = [
        Evidence(f"{family or 'all'}: {seconds:.1f} s", f"{_METRICS}: since last_queued, which is after last")
        for family, seconds in behind.items()
    ]
    if any(seconds > _LAG for seconds in behind.values()):
        yield failed("a change waits", *evidence, fix=fixes.restart(facts), verify="kpx doctor sync")
    else:
        yield passed("none has waited long", *evidence or [Evidence("nothing is queued", _METRICS)])


@check(
    "KPX-SY-004",
    "nobody keeps the xtables lock",
    why="Programs of iptables wait for one lock: who keeps it holds up every sync of the modes iptables and ipvs.",
    remedy="Find out what the process does; `iptables -w` in a loop, or a hung one, is common.",
)
def lock(facts: Facts, _: Subject) -> Iterator[Result]:
    holder = facts.lock_holder()
    if holder is None:
        yield passed("it is free, or soon given back", Evidence("no lasting holder", "/proc/locks"))
        return
    yield failed(
        f"{holder.name}[{holder.pid}] keeps the xtables lock",
        Evidence(f"{holder.name}[{holder.pid}]: {holder.what}", "/proc/locks"),
        fix=Fix(f"end the process {holder.pid}", now=(("kill", str(holder.pid)),), foreign=True),
        verify="kpx doctor sync",
    )


@check(
    "KPX-SY-005",
    "which Services have the most endpoints",
    why="In mode iptables each endpoint is a chain with rules: a Service with many makes every sync of it dear.",
    remedy="Fewer, larger pods; a headless Service for clients that balance themselves; mode nftables.",
)
def largest(facts: Facts, _: Subject) -> Iterator[Result]:
    counted: dict[str, int] = {}
    for _family, one in facts.cluster().ports:
        counted[str(one.port.service)] = counted.get(str(one.port.service), 0) + len(one.endpoints)
    top = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    yield told(
        f"{len(counted)} Services, {sum(counted.values())} endpoints",
        *(Evidence(f"{name}: {count}", facts.cluster().origin) for name, count in top),
    )


@check(
    "KPX-SY-006",
    "the mode fits the number of Services",
    why="Beyond about 1,000 Services the rules of mode iptables cost packets and syncs more and more.",
    remedy="Mode nftables on Linux 5.13 or later; ipvs is deprecated since Kubernetes 1.35.",
    links=("https://kubernetes.io/blog/2025/02/28/nftables-kube-proxy/",),
)
def mode(facts: Facts, _: Subject) -> Iterator[Result]:
    count, used = len(facts.cluster().services), facts.mode()
    evidence = (
        Evidence(used or "not known", "the proxy's configuration"),
        Evidence(f"{count} Services", facts.cluster().origin),
    )
    if used == "iptables" and count > _MANY_SERVICES and facts.status() is None:
        yield warned(f"{count} Services are many for mode iptables", *evidence, fix=_other_mode(facts))
    elif used == "ipvs":
        yield told("mode ipvs scales, but is deprecated since Kubernetes 1.35: plan for nftables", *evidence)
    elif used == "iptables" and count > _MANY_SERVICES:
        yield told(f"mode nftables would serve {count} Services at a lower cost for each packet", *evidence)
    else:
        yield passed(f"{used} fits {count} Services", *evidence)


@check(
    "KPX-SY-007",
    "changes are merged: minSyncPeriod",
    why="Without a pause between syncs, kube-proxy programs rules for every single change of a rolling update.",
    remedy="minSyncPeriod: 1s in the configuration of the mode. (kpx writes only what changed: it needs none.)",
)
def pause(facts: Facts, _: Subject) -> Iterator[Result]:
    config, used = facts.configuration(), facts.mode()
    periods = {one: getattr(config, one).min_sync_period for one in ("iptables", "nftables", "ipvs")}
    text = periods.get(used, "")
    evidence = Evidence(text or "not told", f"the proxy's configuration, {used}.minSyncPeriod")
    if facts.status() is not None:
        yield passed("kpx writes only what changed", evidence)
    elif text and Duration.parse(text).seconds < 1:
        edit = ("kubectl", "edit", "configmap", "--namespace", "kube-system", "kube-proxy")
        yield warned(f"syncs follow each other within {text}", evidence, fix=fixes.by_hand("set it to 1s", edit))
    else:
        yield passed("syncs have a pause between them", evidence)


@check(
    "KPX-SY-008",
    "nobody else changes the proxy's rules",
    why="What others flush or edit is lost until somebody notices; kpx mends it, and kube-proxy at its next full sync.",
    remedy="The record names the program where the kernel tells it: let that one leave these rules alone.",
)
def drift(facts: Facts, _: Subject) -> Iterator[Result]:
    found = facts.drift().drift
    evidence = [
        Evidence(
            f"{one.ended} {one.family.value}: {one.what or 'rules differed'}; {len(one.repaired)} mended",
            "the daemon's drift",
        )
        for one in found[:3]
    ]
    errors = [one for one in found if one.error]
    if errors:
        yield failed(f"{len(errors)} changes by others could not be mended", *evidence, fix=fixes.restart(facts))
    elif found:
        yield told(f"others changed them {len(found)} times lately; all was mended", *evidence)
    else:
        yield passed("nobody did lately", Evidence("none", "the daemon's drift"))


RUNBOOK = Runbook(
    "sync",
    "the rules lag behind what the cluster says",
    (
        rules,
        durations,
        lag,
        proxy.runs,
        proxy.healthy,
        proxy.sync_errors,
        proxy.left_out,
        lock,
        largest,
        mode,
        pause,
        proxy.leftovers,
        drift,
    ),
)
