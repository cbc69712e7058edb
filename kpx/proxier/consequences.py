"""What follows from a sync, for those around the proxier: health, conntrack, health-check node ports, the node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from kpx.cluster.objects import Node
from kpx.net import Family
from kpx.proxier.conntrack import ConntrackCleaner
from kpx.proxier.frontends import Frontends, ServiceName, ServicePortName
from kpx.proxier.health import NodeEligibility, ProxyHealth
from kpx.proxier.health_servers import ServiceHealthServers
from kpx.proxier.node import pod_cidrs, reported_ips
from kpx.proxier.observer import Observer, Sync

logger = logging.getLogger(__name__)


class TellHealth(Observer):
    """Keeps what /healthz and /livez report."""

    def __init__(self, health: ProxyHealth, eligibility: NodeEligibility) -> None:
        self._health = health
        self._eligibility = eligibility

    def node(self, node: Node) -> None:
        self._eligibility.update(node)

    def queued(self, family: Family) -> None:
        self._health.queued(family)

    def synced(self, sync: Sync) -> None:
        if sync.ok:
            self._health.updated(sync.family)
            self._eligibility.programmed(sync.family)


class CleanConntrack(Observer):
    """Has stale UDP flows removed once the rules are in that take their clients elsewhere."""

    def __init__(self, cleaner: ConntrackCleaner) -> None:
        self._cleaner = cleaner

    def synced(self, sync: Sync) -> None:
        if not sync.ok:
            return
        former = [one for one in sync.delta.before.values() if one and one.port.protocol == "UDP"]
        if sync.delta.udp or former:
            current = [one for one in sync.frontends.values() if one.port.protocol == "UDP"]
            self._cleaner.request(sync.family, current, former)


class ServeHealthChecks(Observer):
    """Keeps the health-check node ports open, and what they answer up to date."""

    def __init__(self, servers: Mapping[Family, ServiceHealthServers]) -> None:
        self._servers = servers
        self._checked: dict[Family, dict[ServicePortName, Frontends]] = {family: {} for family in servers}

    def synced(self, sync: Sync) -> None:
        if not sync.ok:
            return
        checked = self._checked[sync.family]
        for port, now in sync.delta.now.items():
            if now and now.health_check_port:
                checked[port] = now
            else:
                checked.pop(port, None)
        ports: dict[ServiceName, int] = {}
        local: dict[ServiceName, set[str]] = {}
        for port, frontends in checked.items():
            ports[port.service] = frontends.health_check_port or 0
            ready = {one.ip for one in frontends.endpoints if one.local and one.ready}
            local.setdefault(port.service, set()).update(ready)
        self._servers[sync.family].sync(ports, {service: len(addresses) for service, addresses in local.items()})


class FollowNode(Observer):
    """Notices what of the node was read once, at the start, and is different now."""

    def __init__(self, first: Node | None, stop: Callable[[str], None], *, needs_pod_cidrs: bool) -> None:
        self._ips = reported_ips(first)
        self._pod_cidrs = pod_cidrs(first)
        self._stop = stop
        self._needs_pod_cidrs = needs_pod_cidrs

    def node(self, node: Node) -> None:
        if (ips := reported_ips(node)) != self._ips:
            logger.error("the node's addresses changed from %s to %s: restart to use them", self._ips, ips)
            self._ips = ips
        if self._needs_pod_cidrs and pod_cidrs(node) != self._pod_cidrs:
            self._stop(f"the node's pod CIDRs changed from {self._pod_cidrs} to {pod_cidrs(node)}")
