"""What all Services need in a table of nftables: base chains in their hooks, and the chains that all share. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kpx.diff.difference import Difference, compare
from kpx.diff.facts import Aspect, Fact, Facts
from kpx.diff.layout import DEFAULT_MARK, Learned, commonest
from kpx.kernel.nft.objects import Chain
from kpx.net import Family
from kpx.proxier.node import LocalTraffic

_OUTSIDE = re.compile(r'(ip6? saddr|iifname) != "?([^" ]+)"? meta mark set')
_ALL = re.compile(r"(?:^|@cluster-ips )meta mark set")
_MARK = re.compile(r"meta mark & (0x[0-9a-f]+) !=")

_EFFECTS = {
    "nat-prerouting": "no packet that comes in reaches a Service",
    "nat-output": "nothing that the node itself sends reaches a Service",
    "nat-postrouting": "nothing is masqueraded, so that answers may not come back",
    "services": "Services are not reached",
    "masquerading": "answers may not come back",
    "filter-input": "Services without endpoints are not refused",
    "filter-forward": "Services without endpoints are not refused",
    "filter-output": "Services without endpoints are not refused",
    "filter-prerouting-pre-dnat": "loadBalancerSourceRanges are not enforced",
    "filter-output-pre-dnat": "loadBalancerSourceRanges are not enforced",
    "firewall-check": "loadBalancerSourceRanges are not enforced",
    "service-endpoints-check": "Services without endpoints are not refused",
    "nodeport-endpoints-check": "node ports without endpoints are not refused",
    "cluster-ips-check": "wrong ports of ClusterIPs are not rejected",
    "reject-chain": "Services without endpoints are not rejected",
}


def learned(marking: Iterable[str], masquerading: Iterable[str], pods: LocalTraffic | None) -> Learned:
    """What rules show: those that mark traffic to ClusterIPs, and those that masquerade what is marked.

    `pods` is how the configuration tells pods, where rules do not show it.
    """
    texts = list(marking)
    outside = commonest(f"{match[1]} {match[2]}" for text in texts if (match := _OUTSIDE.search(text)))
    kind, _, value = outside.rpartition(" ")
    marks = (_MARK.search(text) for text in masquerading)
    mark = next((int(match[1], 16) for match in marks if match), DEFAULT_MARK)
    if kind == "iifname":
        return Learned(LocalTraffic(interface=value.replace("*", "+")), mark=mark)
    everything = not value and any(_ALL.search(text) for text in texts)
    return Learned(LocalTraffic(source=value) if value else pods, everything, mark)


def hook_differences(
    family: Family, table: str, wanted: Mapping[str, Chain], held: Mapping[str, Chain], *, dormant: bool
) -> Iterator[Difference]:
    """The base chains that are not there, or hang elsewhere; none of a dormant table is asked."""
    asked, found = Facts(), Facts()
    for name, chain in wanted.items():
        key, where = (Aspect.BASE, f"the base chain {name}"), f"table {table}"
        effect = _EFFECTS.get(name, "")
        asked[key] = Fact(effect, where)
        if name in held:
            elsewhere = "" if held[name].hook == chain.hook else "in another hook or at another priority"
            found[key] = Fact("not asked, since the table is dormant" if dormant else elsewhere or effect, where)
    yield from compare(family, None, asked, found)


def chain_differences(
    family: Family, table: str, wanted: Mapping[str, Sequence[str]], held: Mapping[str, Sequence[str]]
) -> Iterator[Difference]:
    """The rules that lack in chains which all share, and those that are there besides; rules are texts."""
    asked, found = Facts(), Facts()
    for chain, rules in wanted.items():
        there, lacks = Counter(held.get(chain, ())), Counter(rules)
        where = f"chain {table} {chain}"
        for rule in lacks - there:
            asked[Aspect.BASE, f"the rule '{rule}' in {chain}"] = Fact(_EFFECTS.get(chain, ""), where, rule)
        for rule in there - lacks:
            found[Aspect.BASE, f"the rule '{rule}' in {chain}"] = Fact("", where, rule)
    yield from compare(family, None, asked, found)
