"""Why a packet is refused, in words. Pure.

The chains of kube-proxy say it by their names: comments, which say it in clear, are left out of big rule sets.
"""

from __future__ import annotations

import re

from kpx.proxier.iptables.names import is_proxys
from kpx.trace.outcome import Base
from kpx.trace.result import Verdict

_TABLES = ("kpx", "kube-proxy")
_NO_ENDPOINTS = "the Service has no endpoints"
_NO_LOCAL = "the Service has no endpoint on this node, and its traffic policy is Local"
# What the reason ends in where the rule is not a service proxy's.
FOREIGN = "which is not kube-proxy's"
_SOURCES = "the sender is none of the Service's loadBalancerSourceRanges"

# What a verdict means in a chain of a service proxy.
_MEANINGS: tuple[tuple[str, Verdict, str], ...] = (
    (r"KUBE-(EXTERNAL-)?SERVICES", Verdict.REJECTED, _NO_ENDPOINTS),
    (r"KUBE-(EXTERNAL-)?SERVICES", Verdict.DROPPED, _NO_LOCAL),
    (r"KUBE-PROXY-FIREWALL|KUBE-SOURCE-RANGES-FIREWALL|KUBE-IPVS-OUT-FILTER", Verdict.DROPPED, _SOURCES),
    (r"KUBE-FORWARD", Verdict.DROPPED, "conntrack calls the packet invalid"),
    (r"KUBE-FIREWALL", Verdict.DROPPED, "127.0.0.0/8 is closed to whoever is not on this node"),
    (r"KUBE-IPVS-FILTER", Verdict.REJECTED, "the address is a Service's, but no Service has this port"),
    (r"reject-chain", Verdict.REJECTED, _NO_ENDPOINTS),
    (r"(service|nodeport)-endpoints-check", Verdict.DROPPED, _NO_LOCAL),
    (r"cluster-ips-check", Verdict.REJECTED, "the address is a Service's, but the Service has no such port"),
    (r"cluster-ips-check", Verdict.DROPPED, "the address is in a range for ClusterIPs, but no Service has it"),
    (r"firewall-.*", Verdict.DROPPED, _SOURCES),
)


def of_proxy(table: str, chain: str) -> bool:
    """Whether a chain is a service proxy's, by its name and its table's."""
    return is_proxys(chain) or table.rpartition(" ")[2] in _TABLES


def reason(verdict: Verdict, base: Base, chain: str, rule: str) -> str:
    """Why a rule, or with an empty `rule` a policy, ends the packet's way."""
    if of_proxy(base.table, chain):
        for names, meant, words in _MEANINGS:
            if verdict is meant and re.fullmatch(names, chain):
                return words
        return f"by chain {chain} of table {base.table}"
    what = f"rule '{rule}'" if rule else "the policy"
    return f"by {what} of table {base.table}, chain {chain}, {FOREIGN}"
