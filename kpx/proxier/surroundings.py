"""What the node is like, learnt once at the start: its Node object, its addresses, the families it can serve."""

from __future__ import annotations

import logging
import queue
import time
from dataclasses import dataclass
from pathlib import Path

from kpx.cluster.events import Applied, Event, Synced
from kpx.cluster.objects import Kind, Node
from kpx.config.types import KubeProxyConfiguration
from kpx.net import Family, canonical_network
from kpx.proxier.loop import Inbox, ProxyStopped, Resync, Stop, Verify
from kpx.proxier.node import (
    NodeAddresses,
    is_fatal,
    local_traffic,
    node_addresses,
    pod_cidrs,
    reported_ips,
    warnings,
    wrong_family,
    zone_of,
)
from kpx.proxier.nodeports import NodePortAddresses, resolve_primary
from kpx.proxier.site import Mode, Site

logger = logging.getLogger(__name__)

_ADDRESS_SECONDS = 30.0
_POD_CIDR_SECONDS = 300.0
_DISABLED = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")


class StartError(Exception):
    """The proxy cannot start; the text is one sentence, with the remedy where there is one."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The node as it was at the start, and the sites that backends are made for."""

    name: str
    node: Node | None
    addresses: NodeAddresses
    sites: tuple[Site, ...]

    @property
    def zone(self) -> str:
        return zone_of(self.node)

    def site(self, family: Family) -> Site:
        return next(site for site in self.sites if site.family is family)


def await_node(
    inbox: Inbox, config: KubeProxyConfiguration, name: str, *, patient: bool
) -> tuple[Node | None, list[Event]]:
    """Wait until the Node object says what is needed of it; return it with the events that came meanwhile.

    A node without addresses is waited for 30 s, then gone on without; one without pod CIDRs, where they are needed,
    5 min, then `StartError`. Where not `patient`, what the first list says is final.
    """
    needs_cidrs = config.detect_local_mode == "NodeCIDR"
    deadline = time.monotonic() + (_POD_CIDR_SECONDS if needs_cidrs else _ADDRESS_SECONDS)
    node: Node | None = None
    events: list[Event] = []
    while (remaining := deadline - time.monotonic()) > 0:
        try:
            event = inbox.get(timeout=remaining)
        except queue.Empty:
            break
        if isinstance(event, Stop):
            raise ProxyStopped(event.error)
        if isinstance(event, Verify | Resync):
            continue
        events.append(event)
        if isinstance(event, Applied) and isinstance(event.object, Node):
            node = event.object
            if reported_ips(node) and (pod_cidrs(node) or not needs_cidrs):
                return node, events
        if event == Synced(Kind.NODE) and not patient:
            break
    if needs_cidrs and not pod_cidrs(node):
        what = f'PodCIDR allocation on node "{name}"' if node else f'node "{name}" to exist'
        raise StartError(f"timeout waiting for {what}: check that --hostname-override is the name of a Node")
    if node is None:
        logger.error("there is no Node %s: its addresses and zone are not known (is --hostname-override right?)", name)
    return node, events


def surroundings(config: KubeProxyConfiguration, mode: Mode, name: str, node: Node | None) -> Surroundings:
    """Work out where the proxy runs. Raises `StartError`."""
    addresses = node_addresses(node, config.bind_address)
    if not addresses.known:
        logger.error(
            "Can't determine this node's IP, assuming loopback; if this is incorrect, "
            "please set the --bind-address flag"
        )
    families = [family for family in mode.families() if family is Family.IPV4 or host_has_ipv6()]
    if addresses.primary not in families:
        raise StartError(f'no support for primary IP family "{addresses.primary.value}"')
    dual_stack = len(families) > 1
    for warning in warnings(config, node, addresses.primary, dual_stack=dual_stack):
        logger.error("%s", warning)
    fault = wrong_family(config, node, addresses.primary, dual_stack=dual_stack)
    if is_fatal(config, fault, dual_stack=dual_stack):
        raise StartError(f"kube-proxy configuration is incorrect: {fault}")
    sites = tuple(_site(config, node, addresses, family) for family in families)
    return Surroundings(name, node, addresses, sites)


def _site(config: KubeProxyConfiguration, node: Node | None, addresses: NodeAddresses, family: Family) -> Site:
    cidrs = [canonical_network(one) or one for one in resolve_primary(config.node_port_addresses, addresses.ips)]
    return Site(
        family=family,
        config=config,
        node_ip=addresses.ips[family],
        local_traffic=local_traffic(config, node, family),
        node_ports=NodePortAddresses(cidrs, family),
    )


def host_has_ipv6() -> bool:
    """Whether the host has IPv6 at all."""
    return Path("/proc/net/if_inet6").exists() and not (_DISABLED.exists() and _DISABLED.read_text().strip() == "1")
