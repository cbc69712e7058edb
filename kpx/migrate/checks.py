"""Facts of a node -> what stands in the way of a proxy mode, and what is worth knowing before. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from kpx.migrate.facts import CONNTRACK_LIMIT, FORWARDING, Facts
from kpx.proxier.ipvs.requirements import SCHEDULERS


class Status(Enum):
    """How a check came out; only FAIL stands in the way."""

    PASS = "pass"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``found`` says what there is, ``remedy`` what to do, empty for nothing."""

    id: str
    status: Status
    found: str
    remedy: str = ""


def checks(facts: Facts, mode: str) -> list[Check]:
    """All that there is to say of a move to ``mode``, in the order in which an operator would look."""
    return [check for look in (_ABLE[mode], *_EVERYWHERE) for check in look(facts, mode)]


def _nftables(facts: Facts, _: str) -> Iterator[Check]:
    for family, lack in facts.lacks.items():
        # A node without IPv6 does without it, as kube-proxy does.
        status = Status.FAIL if family == "IPv4" else Status.WARN
        yield Check("kernel", status, f"Linux {facts.kernel}, {family}: {lack}", "choose mode iptables on this node")
    if not facts.lacks:
        yield Check("kernel", Status.PASS, f"Linux {facts.kernel} has all that mode nftables needs")


def _iptables(facts: Facts, _: str) -> Iterator[Check]:
    if facts.iptables:
        yield Check("iptables", Status.PASS, f"mode iptables would use {facts.iptables}")
    else:
        yield Check("iptables", Status.FAIL, facts.iptables_fault, "install iptables, or choose mode nftables")


def _ipvs(facts: Facts, mode: str) -> Iterator[Check]:
    if facts.scheduler not in SCHEDULERS:
        yield Check(
            "scheduler", Status.FAIL, f"there is no scheduler {facts.scheduler}", f"one of {', '.join(SCHEDULERS)}"
        )
    missing = {name: why for name, why in facts.modules.items() if why}
    for name, why in missing.items():
        yield Check("modules", Status.FAIL, f"module {name}: {why}", "install it, or choose mode nftables")
    if not missing:
        yield Check("modules", Status.PASS, f"{', '.join(facts.modules)} are there, or are loaded when they are needed")
    yield Check("deprecated", Status.WARN, "Kubernetes has deprecated mode ipvs", "consider mode nftables")
    yield from _iptables(facts, mode)


def _other_proxies(facts: Facts, _: str) -> Iterator[Check]:
    for one in facts.others:
        alone = not (facts.proxies or facts.holdings)
        serves = one.serves or (one.serves is None and alone)
        found = f"{one.name}: {one.evidence}" + (", and nothing of a kube-proxy is" if alone and not one.serves else "")
        yield Check("other-proxy", Status.FAIL if serves else Status.WARN, found, one.remedy)
    if not facts.others:
        yield Check("other-proxy", Status.PASS, "nothing of Cilium, Calico's eBPF, kube-router or the like is here")


def _proxies(facts: Facts, mode: str) -> Iterator[Check]:
    if facts.proxies:
        alive = ", ".join(facts.proxies)
        in_mode = f" in mode {facts.mode}" if facts.mode else ""
        yield Check(
            "proxy", Status.INFO, f"{alive} runs here{in_mode}: kpx waits for its end before it programs anything"
        )
    else:
        yield Check("proxy", Status.INFO, "no kube-proxy and no kpx runs here, as far as can be seen")
    for held in facts.holdings:
        if held.mode not in (facts.mode, mode):
            yield Check(
                "leftover", Status.INFO, f"{held.what}: of mode {held.mode}, and kpx removes it once its own are in"
            )
    if len({held.variant for held in facts.holdings if held.variant}) > 1:
        yield Check(
            "variants",
            Status.WARN,
            "there are rules of Services in both variants of iptables, and both are in force",
            "find out which one the kubelet uses (the chain KUBE-IPTABLES-HINT) and restart the node without the other",
        )


def _ports(facts: Facts, _: str) -> Iterator[Check]:
    for one in facts.listeners:
        if str(one) in facts.proxies:
            continue
        if one.owner.startswith("k3s"):
            remedy = "it runs kube-proxy within itself: start it with --disable-kube-proxy"
        elif not one.owner and facts.proxies:
            continue
        else:
            remedy = "end it, or set healthzBindAddress and metricsBindAddress"
        yield Check("port", Status.FAIL, f"port {one.port} is taken by {one}", remedy)


def _forwarding(facts: Facts, mode: str) -> Iterator[Check]:
    if facts.settings.get(FORWARDING) == 0 and mode != "ipvs":
        yield Check("forwarding", Status.WARN, "net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1")
    if facts.forward_drops and mode == "nftables":
        yield Check(
            "forward-policy",
            Status.WARN,
            f"the policy of FORWARD is DROP in {', '.join(facts.forward_drops)}, and in this mode no rule of Services "
            "accepts what it drops",
            "iptables -P FORWARD ACCEPT, or accept the pods' network there (most network plugins do)",
        )


def _conntrack(facts: Facts, _: str) -> Iterator[Check]:
    limit = facts.settings.get(CONNTRACK_LIMIT)
    if limit is not None and limit > facts.conntrack_limit > 0:
        yield Check(
            "conntrack",
            Status.WARN,
            f"room for {limit:,} connections, which the default configuration makes {facts.conntrack_limit:,}",
            "conntrack.maxPerCore: 0 leaves it as it is",
        )


def _localhost(facts: Facts, mode: str) -> Iterator[Check]:
    if facts.mode == "iptables" and mode != "iptables" and facts.localhost_packets:
        yield Check(
            "localhost",
            Status.WARN,
            f"node ports on 127.0.0.1 are in use: {facts.localhost_packets:,} packets were accepted",
            f"find who connects to them: mode {mode} has none",
        )


_Look = Callable[[Facts, str], Iterator[Check]]

_ABLE: dict[str, _Look] = {"nftables": _nftables, "iptables": _iptables, "ipvs": _ipvs}
_EVERYWHERE: tuple[_Look, ...] = (_other_proxies, _proxies, _ports, _forwarding, _conntrack, _localhost)
