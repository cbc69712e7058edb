"""The chains that are there whatever Services there are.

Pure. Source: kube-proxy 1.36 in nftables mode, but for priorities and place: where its table, or rules of iptables,
have already translated a packet, none of these rules matches it any more. So a proxy that starts beside a stale table
of ours takes precedence. That is why the check of sources is in the nat chains, behind its translation.
"""

from __future__ import annotations

from collections.abc import Mapping

from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.intervals import interval_elements
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Table
from kpx.kernel.nft.rules import (
    among,
    drop,
    eq,
    has,
    jump,
    mark_xor,
    masquerade,
    ne,
    reject,
    rule,
    vmap,
)
from kpx.kernel.nft.selectors import ct_state, ct_status, daddr, fib_daddr_type, meta_mark, saddr
from kpx.net import packed
from kpx.proxier.nftables.chains import Rules, Terms, WholeSet
from kpx.proxier.nftables.containers import Containers, key_selectors
from kpx.proxier.nftables.settings import Settings

TABLE = Table("rules of Services, kept by kpx")
REJECT = "reject-chain"

# Just after dstnat and srcnat, where kube-proxy's table and iptables hang.
_DSTNAT, _SRCNAT, _FILTER = -99, 101, 0

BASE_CHAINS = {
    chain.name: chain
    for chain in (
        Chain("filter-input", Hook("filter", HookPoint.INPUT, _FILTER)),
        Chain("filter-forward", Hook("filter", HookPoint.FORWARD, _FILTER)),
        Chain("filter-output", Hook("filter", HookPoint.OUTPUT, _FILTER)),
        Chain("nat-prerouting", Hook("nat", HookPoint.PREROUTING, _DSTNAT)),
        Chain("nat-output", Hook("nat", HookPoint.OUTPUT, _DSTNAT)),
        Chain("nat-postrouting", Hook("nat", HookPoint.POSTROUTING, _SRCNAT)),
    )
}


def skeleton_rules(settings: Settings, sets: Containers) -> Mapping[str, Rules]:
    """The rules of each fixed chain."""
    family = settings.nf_family
    source, destination = saddr(family), daddr(family)
    service = key_selectors(family, node_port=False)
    node_port = (*_answers_node_ports(settings, sets), *key_selectors(family, node_port=True))
    new = (ct_state, has("new"))
    listed = (
        rule("filter-input", *new, jump("nodeport-endpoints-check")),
        rule("filter-input", *new, jump("service-endpoints-check")),
        rule("filter-forward", *new, jump("service-endpoints-check")),
        rule("filter-forward", *new, jump("cluster-ips-check")),
        rule("filter-output", *new, jump("service-endpoints-check")),
        rule("filter-output", *new, jump("cluster-ips-check")),
        rule("nat-prerouting", jump("services")),
        rule("nat-output", jump("services")),
        rule("nat-postrouting", jump("masquerading")),
        rule("services", *service, vmap(sets.firewall_ips.name)),
        rule("services", *service, vmap(sets.service_ips.name)),
        rule("services", *node_port, vmap(sets.node_ports.name)),
        rule(
            "masquerading",
            *(meta_mark, has(settings.mark), mark_xor(settings.mark), masquerade()),
        ),
        rule(
            "masquerading",
            *(ct_status, has("dnat"), source, destination, among(sets.hairpin.name), masquerade()),
        ),
        rule("service-endpoints-check", *service, vmap(sets.no_endpoint_services.name)),
        rule("nodeport-endpoints-check", *node_port, vmap(sets.no_endpoint_node_ports.name)),
        rule(
            "cluster-ips-check",
            *(destination, among(sets.cluster_ips.name), reject(family)),
            comment="Reject traffic to invalid ports of ClusterIPs",
        ),
        rule(
            "cluster-ips-check",
            *(destination, among(sets.service_cidrs.name), drop),
            comment="Drop traffic to unallocated ClusterIPs",
        ),
        rule(REJECT, reject(family)),
    )
    chains: dict[str, Rules] = {}
    for one in listed:
        chains[one.chain] = (*chains.get(one.chain, ()), one)
    return chains


def _answers_node_ports(settings: Settings, sets: Containers) -> Terms:
    """What tells packets to addresses that node ports answer on."""
    destination = daddr(settings.nf_family)
    if settings.node_ports is not None:
        return (destination, among(sets.node_port_ips.name))
    return (fib_daddr_type, eq("local"), destination, ne(settings.family.loopback))


def skeleton_sets(settings: Settings, sets: Containers) -> Mapping[str, WholeSet]:
    """The sets whose elements follow from the settings."""
    return {
        whole.set.name: whole
        for whole in (
            WholeSet(sets.node_port_ips, tuple(Element(packed(one)) for one in settings.node_ports or ())),
            WholeSet(sets.service_cidrs, tuple(interval_elements(settings.service_cidrs))),
        )
    }
