"""What all Services need in the tables of iptables: jumps from built-in chains, and chains that all share. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from kpx.diff.difference import Difference, compare
from kpx.diff.facts import Aspect, Fact, Facts
from kpx.kernel.iptables.tables import Tables
from kpx.net import Family
from kpx.proxier.iptables import names
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.iptables.skeleton import JUMPS, Jump, fixed_chains, is_tail
from kpx.trace.iptables_text import parse

# kpx has this jump beside those of kube-proxy; the kubelet has the chain KUBE-FIREWALL too.
_ONLY_OURS = ("filter", "OUTPUT", names.EXTERNAL_SERVICES)
_SHARED_WITH_KUBELET = (names.FIREWALL, names.CANARY)
_IDLE = ("comment", "nfacct")

_EFFECTS = {
    ("nat", "PREROUTING"): "no packet that comes in reaches a Service",
    ("nat", "OUTPUT"): "nothing that the node itself sends reaches a Service",
    ("nat", "POSTROUTING"): "nothing is masqueraded, so that answers may not come back",
    names.SERVICES: "Services without endpoints are not rejected",
    names.EXTERNAL_SERVICES: "external addresses without endpoints are not refused",
    names.NODE_PORTS: "health-check node ports are not let in",
    names.FORWARD: "traffic of Services is not let through",
    names.PROXY_FIREWALL: "loadBalancerSourceRanges are not enforced",
    names.POSTROUTING: "marked packets are not masqueraded as they should be",
    names.MARK_MASQ: "packets that are to be masqueraded are not marked",
}


def base_differences(family: Family, kernel: Tables, settings: Settings, *, own: bool) -> Iterator[Difference]:
    """What is missing or different of it."""
    wanted, held = Facts(), Facts()
    for jump in JUMPS:
        where = (jump.table, jump.chain, jump.to)
        if jump.to not in _SHARED_WITH_KUBELET and (own or where != _ONLY_OURS):
            compare_jump(jump, kernel.rules(jump.table, jump.chain), wanted, held)
    for (table, chain), rules in fixed_chains(settings).items():
        if chain not in _SHARED_WITH_KUBELET:
            compare_chain(table, chain, rules, kernel.rules(table, chain), wanted, held)
    _node_ports(kernel, wanted, held)
    yield from compare(family, None, wanted, held)


def compare_jump(jump: Jump, rules: Iterable[str], wanted: Facts, held: Facts) -> None:
    """The jump to one of the proxy's chains, as it should be and as it is among the rules of a built-in chain."""
    key = Aspect.BASE, f"the jump from {jump.chain} to {jump.to} (table {jump.table})"
    where = f"-t {jump.table} {jump.chain}"
    effect = _EFFECTS.get((jump.table, jump.chain), _EFFECTS.get(jump.to, ""))
    wanted[key] = Fact(effect, where, jump.rule)
    same = _canonical(jump.rule)
    for rule in rules:
        if rule.endswith(f"-j {jump.to}"):
            found = _canonical(rule)
            held[key] = Fact(
                effect if found in (same, (frozenset(), same[1])) else "limited to some packets", where, rule
            )
            if held[key].value == effect:
                return


def compare_chain(
    table: str, chain: str, rules: Iterable[str], there: Iterable[str], wanted: Facts, held: Facts
) -> None:
    """A chain with fixed rules: those that lack, and those that are there besides."""
    asked, found = Counter(map(_canonical, rules)), Counter(map(_canonical, there))
    where = f"-t {table} {chain}"
    for rule in rules:
        if found[_canonical(rule)] < asked[_canonical(rule)]:
            wanted[Aspect.BASE, f"the rule '{rule}' in {chain}"] = Fact(_EFFECTS.get(chain, ""), where, rule)
    for rule in there:
        # Whether invalid packets are dropped depends on a setting of conntrack.
        if _canonical(rule) not in asked and "INVALID" not in rule:
            held[Aspect.BASE, f"the rule '{rule}' in {chain}"] = Fact("", where, rule)


def _node_ports(kernel: Tables, wanted: Facts, held: Facts) -> None:
    key = Aspect.BASE, f"the jump from {names.SERVICES} to {names.NODE_PORTS} (table nat)"
    where = f"-t nat {names.SERVICES}"
    wanted[key] = Fact("no node port answers", where)
    for rule in kernel.rules("nat", names.SERVICES):
        if is_tail(rule):
            held[key] = Fact("no node port answers", where, rule)


def _canonical(rule: str) -> tuple[frozenset[str], str]:
    """A rule's matches and target, without what has no effect on where packets go."""
    parsed = parse(rule)
    matches = [str(one) for match in parsed.matches if match.module not in _IDLE for one in match.options]
    options = [str(one) for one in parsed.options if one.name != "--random-fully"]
    return frozenset(matches), " ".join((parsed.target, *options))
