"""The chains that exist whatever Services there are, and the jumps that lead into them.

Pure. Source: kube-proxy 1.36 in iptables mode, with one jump more: filter OUTPUT also leads to KUBE-EXTERNAL-SERVICES,
so that the node's own traffic to an external address without endpoints is rejected as everybody else's is.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from kpx.proxier.iptables import names
from kpx.proxier.iptables.rules import comment, host, rule
from kpx.proxier.iptables.settings import INVALID_DROPPED, Settings


class Jump(NamedTuple):
    """A rule in a built-in chain that leads to one of ours."""

    table: str
    chain: str
    to: str
    rule: str


def _jump(table: str, chain: str, to: str, text: str = "", *, new: bool = False) -> Jump:
    state = "-m conntrack --ctstate NEW" if new else ""
    return Jump(table, chain, to, rule(state, comment(text) if text else "", jump=to))


_EXTERNAL = "kubernetes externally-visible service portals"
_PORTALS = "kubernetes service portals"
_LB_FIREWALL = "kubernetes load balancer firewall"

# In kube-proxy's order of creation; each is put before those that are there.
JUMPS: tuple[Jump, ...] = (
    _jump("filter", "INPUT", names.EXTERNAL_SERVICES, _EXTERNAL, new=True),
    _jump("filter", "FORWARD", names.EXTERNAL_SERVICES, _EXTERNAL, new=True),
    _jump("filter", "OUTPUT", names.EXTERNAL_SERVICES, _EXTERNAL, new=True),
    _jump("filter", "INPUT", names.NODE_PORTS, "kubernetes health check service ports"),
    _jump("filter", "FORWARD", names.SERVICES, _PORTALS, new=True),
    _jump("filter", "OUTPUT", names.SERVICES, _PORTALS, new=True),
    _jump("filter", "FORWARD", names.FORWARD, "kubernetes forwarding rules"),
    _jump("filter", "INPUT", names.PROXY_FIREWALL, _LB_FIREWALL, new=True),
    _jump("filter", "OUTPUT", names.PROXY_FIREWALL, _LB_FIREWALL, new=True),
    _jump("filter", "FORWARD", names.PROXY_FIREWALL, _LB_FIREWALL, new=True),
    _jump("nat", "OUTPUT", names.SERVICES, _PORTALS),
    _jump("nat", "PREROUTING", names.SERVICES, _PORTALS),
    _jump("nat", "POSTROUTING", names.POSTROUTING, "kubernetes postrouting rules"),
    _jump("filter", "INPUT", names.FIREWALL),
    _jump("filter", "OUTPUT", names.FIREWALL),
)

# Chains that hold a line or two for each service port; kube-proxy's and ours alone.
SHARED: dict[str, tuple[str, ...]] = {
    "filter": (names.SERVICES, names.EXTERNAL_SERVICES, names.NODE_PORTS, names.PROXY_FIREWALL),
    "nat": (names.SERVICES, names.NODE_PORTS),
}

_TAIL = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")


def fixed_chains(settings: Settings) -> dict[tuple[str, str], tuple[str, ...]]:
    """The rules of the chains that are ours alone and the same whatever Services there are, by (table, chain)."""
    return {
        ("mangle", names.CANARY): (),
        ("filter", names.CANARY): (),
        ("nat", names.CANARY): (),
        ("nat", names.POSTROUTING): masquerade_rules(settings.mark, random_fully=settings.random_fully),
        ("nat", names.MARK_MASQ): mark_masq_rules(settings.mark),
        ("filter", names.FORWARD): (
            *((_drop_invalid(settings),) if settings.drop_invalid else ()),
            *forwarding_rules(settings.mark),
        ),
    }


def masquerade_rules(mark: int, *, random_fully: bool) -> tuple[str, ...]:
    """Masquerades what is marked, and takes the mark off."""
    random = " --random-fully" if random_fully else ""
    return (
        rule(f"-m mark ! --mark {mark:#x}/{mark:#x}", jump="RETURN"),
        rule(jump=f"MARK --set-xmark {mark:#x}/0x0"),
        rule(comment("kubernetes service traffic requiring SNAT"), jump=f"MASQUERADE{random}"),
    )


def mark_masq_rules(mark: int) -> tuple[str, ...]:
    """Marks what is to be masqueraded."""
    return (rule(jump=f"MARK --set-xmark {mark:#x}/{mark:#x}"),)


def forwarding_rules(mark: int) -> tuple[str, ...]:
    """Lets through what a Service's packets need."""
    return (
        rule(comment("kubernetes forwarding rules"), f"-m mark --mark {mark:#x}/{mark:#x}", jump="ACCEPT"),
        rule(
            comment("kubernetes forwarding conntrack rule"), "-m conntrack --ctstate RELATED,ESTABLISHED", jump="ACCEPT"
        ),
    )


def _drop_invalid(settings: Settings) -> str:
    counter = f"-m nfacct --nfacct-name {INVALID_DROPPED}" if INVALID_DROPPED in settings.counters else ""
    return rule("-m conntrack --ctstate INVALID", counter, jump="DROP")


def tail(settings: Settings) -> tuple[str, ...]:
    """The last rules of nat KUBE-SERVICES: node ports are what no address matched."""
    if settings.node_ports is not None:
        return tuple(rule(_TAIL, destination=host(one), jump=names.NODE_PORTS) for one in settings.node_ports)
    here = "-m addrtype --dst-type LOCAL"
    but = "" if settings.localhost_node_ports else f"! {settings.family.loopback}"
    return (rule(_TAIL, here, destination=but, jump=names.NODE_PORTS),)


def is_tail(text: str) -> bool:
    """Whether a rule of nat KUBE-SERVICES leads to the node ports."""
    return text.endswith(f"-j {names.NODE_PORTS}")


# In a chain that the kubelet uses too: nobody outside reaches 127.0.0.0/8.
LOCALNET_RULE = rule(
    comment("block incoming localnet connections"),
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT",
    source="! 127.0.0.0/8",
    destination="127.0.0.0/8",
    jump="DROP",
)


def firewall_rule(settings: Settings) -> str | None:
    """Our rule in KUBE-FIREWALL, where node ports answer on 127.0.0.0/8."""
    return LOCALNET_RULE if settings.localhost_node_ports else None


def skeleton_rules(settings: Settings) -> Counter[str]:
    """The number of rules that are there without any Service, by table; jumps from built-in chains do not count."""
    count = Counter({table: 0 for table in ("filter", "nat")})
    for (table, _), rules in fixed_chains(settings).items():
        if table in count:
            count[table] += len(rules)
    count["nat"] += len(tail(settings))
    count["filter"] += firewall_rule(settings) is not None
    return count
