"""The proxy server: puts the parts together in kube-proxy's order of start, and runs them."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kpx.cluster.events import Source
from kpx.cluster.objects import Kind
from kpx.cluster.recorder import EventType, ObjectReference, Recorder
from kpx.config import gates
from kpx.config.addresses import split_host_port
from kpx.config.arguments import Arguments, flag_values
from kpx.config.nodename import node_name
from kpx.config.types import KubeProxyConfiguration
from kpx.config.watching import UPDATED, watch_file
from kpx.config.writing import configz
from kpx.kernel import links
from kpx.logs import v
from kpx.net import is_link_local
from kpx.proxier import sysctls
from kpx.proxier.cleanup import TakeOver
from kpx.proxier.conntrack import ConntrackCleaner
from kpx.proxier.consequences import CleanConntrack, FollowNode, ServeHealthChecks, TellHealth
from kpx.proxier.desired import DesiredState
from kpx.proxier.family import FULL_SYNC_SECONDS, Clocks, FamilyProxier
from kpx.proxier.frontends import ServiceName
from kpx.proxier.health import NodeEligibility, ProxyHealth, rfc3339
from kpx.proxier.health_servers import HealthChecks, ServiceHealthServers
from kpx.proxier.http_messages import Handler
from kpx.proxier.http_server import RETRY_SECONDS, HTTPServer, ListenError
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.journal import Journal
from kpx.proxier.kernel_metrics import AccountingMetrics, ConntrackMetrics
from kpx.proxier.loop import Inbox, Loop, Resync, Stop, Verify
from kpx.proxier.measure import Measure
from kpx.proxier.memory import CollectGarbage
from kpx.proxier.metrics import Metrics
from kpx.proxier.metrics_server import MetricsPages
from kpx.proxier.modes import mode_of
from kpx.proxier.observer import Observer, Observers
from kpx.proxier.plan import Viewpoint
from kpx.proxier.published import Origin, Status
from kpx.proxier.rival import wait_until_alone
from kpx.proxier.runner import SyncSchedule
from kpx.proxier.site import Mode, Site
from kpx.proxier.surroundings import StartError, Surroundings, await_node, surroundings
from kpx.proxier.tool_pages import ToolPages
from kpx.proxier.unix_socket import tool_socket

logger = logging.getLogger(__name__)

# kube-proxy's words, for those who look for them.
IPVS_DEPRECATED = (
    "The ipvs proxier is now deprecated and may be removed in a future release. Please use 'nftables' instead."
)
# The longest, in seconds, that the last Event of a process is waited for.
_FLUSH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where objects come from and Events go to.

    ``patient`` where a Node that is missing may yet appear; ``ages`` tells how old each watch's last word is.
    """

    source: Source
    recorder: Recorder
    patient: bool
    ages: Callable[[], Mapping[str, float]] | None = None


def family_proxier(
    config: KubeProxyConfiguration, mode: Mode, site: Site, here: Surroundings, observer: Observer, clocks: Clocks
) -> FamilyProxier:
    """The proxier of one family, ready to sync."""
    view = Viewpoint(
        node=here.name,
        zone=here.zone,
        masquerade_all=config.masquerade_all,
        pods_known=site.local_traffic is not None,
        external_ips=gates.enabled(config.feature_gates, "AllowServiceExternalIPs"),
    )
    schedule = SyncSchedule(
        minimum=config.min_sync_period.seconds,
        retry=config.sync_period.seconds,
        maximum=FULL_SYNC_SECONDS,
        now=clocks.monotonic(),
    )
    return FamilyProxier(site.family, DesiredState(site.family, view), mode.backend(site), schedule, observer, clocks)


class Server:
    """One run of the proxy, from start to end."""

    def __init__(
        self, arguments: Arguments, config: KubeProxyConfiguration, cluster: Cluster, metrics: Metrics, version: str
    ) -> None:
        """Raises `ModeUnavailable`, or `StartError` for a configuration that cannot be run."""
        if config.min_sync_period.seconds > FULL_SYNC_SECONDS:
            longest = f"{FULL_SYNC_SECONDS / 3600:g}h"
            raise StartError(f"minSyncPeriod is {config.min_sync_period}: it can be {longest} at most")
        self._mode = mode_of(config)
        self._arguments = arguments
        self._config = config
        self._cluster = cluster
        self._version = version
        self._name = node_name(config.hostname_override, socket.gethostname())
        self._inbox = Inbox()
        self._retrying = False
        self._stop = threading.Event()
        self._metrics = metrics
        self._health = ProxyHealth(config.sync_period.seconds)

    def run(self) -> None:
        """Run until the process is told to end.

        Raises `StartError`, `ModeUnavailable` or `SysctlError` where it cannot start, and `ProxyStopped` where it must
        be started anew.
        """
        mode = self._mode
        if not (self._arguments.take_over or self._arguments.init_only):
            wait_until_alone(self._stop)
        threading.Thread(target=self._follow, name="source", daemon=True).start()
        node, backlog = await_node(self._inbox, self._config, self._name, patient=self._cluster.patient)
        here = surroundings(self._config, mode, self._name, node)
        sysctls.apply_conntrack(self._config.conntrack, sysctls.host_cores())
        for site in here.sites:
            mode.prepare(site)
        if self._arguments.init_only:
            return
        _set_oom_score(self._config.oom_score_adj)
        self._eligibility = NodeEligibility(site.family for site in here.sites)
        http = HTTPServer()
        journal = Journal(site.family for site in here.sites)
        observer = self._observers(here, http, journal)
        clocks = Clocks()
        families = [family_proxier(self._config, mode, site, here, observer, clocks) for site in here.sites]
        for site in here.sites:
            self._health.updated(site.family)
            observer.queued(site.family)
        self._serve(http)
        http.offer(tool_socket(), ToolPages(journal, self._status()), "the tools' socket")
        self._watch(here)
        self._record(EventType.NORMAL, "Starting", "")
        if self._config.mode == "ipvs":
            logger.error("%s", IPVS_DEPRECATED)
            self._record(EventType.WARNING, "IPVSDeprecation", IPVS_DEPRECATED)
        Loop(self._inbox, families, observer, clocks, backlog).run()

    def _follow(self) -> None:
        self._cluster.source.run(self._inbox.put, self._stop)

    def _observers(self, here: Surroundings, http: HTTPServer, journal: Journal) -> Observer:
        cleaner = ConntrackCleaner(self._metrics, lambda family: _node_port_addresses(here.site(family)))
        cleaner.start()
        checks = {
            site.family: ServiceHealthServers(
                site.family, http, self._health, self._health_check_failed, _listen_addresses(site)
            )
            for site in here.sites
        }
        return Observers(
            [
                Measure(self._metrics, self._config.mode),
                journal,
                TakeOver(self._config.mode),
                TellHealth(self._health, self._eligibility),
                ServeHealthChecks(checks),
                CleanConntrack(cleaner),
                CollectGarbage(site.family for site in here.sites),
                FollowNode(here.node, self._end, needs_pod_cidrs=self._config.detect_local_mode == "NodeCIDR"),
            ]
        )

    def _end(self, error: str) -> None:
        self._inbox.put(Stop(error))

    # The servers.

    def _serve(self, http: HTTPServer) -> None:
        self._metrics.registry.register(ConntrackMetrics())
        if self._config.mode == "iptables":
            self._metrics.registry.register(AccountingMetrics())
        if self._cluster.ages:
            self._metrics.follow_watches(self._cluster.ages, [kind.value for kind in Kind])
        health = HealthChecks(self._health, self._eligibility, self._metrics.health_answered)
        pages = MetricsPages(
            self._metrics.registry,
            mode=self._config.mode,
            version=self._version,
            configz=configz(self._config),
            flags=flag_values(self._arguments),
            healthy=lambda: self._health.status().healthy,
            profiling=self._config.enable_profiling,
            flagz=gates.enabled(self._config.feature_gates, "ComponentFlagz"),
            statusz=gates.enabled(self._config.feature_gates, "ComponentStatusz"),
        )
        self._listen(
            http, "healthz server", self._config.healthz_bind_address, health, "FailedToStartProxierHealthcheck"
        )
        self._listen(http, "metrics server", self._config.metrics_bind_address, pages, "FailedToStartMetricServer")

    def _status(self) -> Status:
        """What the tools are told of this process; the families are told as they are when it is asked."""
        arguments, config = self._arguments, self._config
        manifests = str(arguments.manifests.absolute()) if arguments.manifests else ""
        return Status(
            node=self._name,
            mode=config.mode,
            version=self._version,
            process=os.getpid(),
            started=rfc3339(time.time_ns()),
            origin=Origin(manifests, config.client_connection.kubeconfig, arguments.master),
            families=(),
            configuration=msgspec.Raw(configz(config)),
        )

    def _listen(self, http: HTTPServer, what: str, bind: str, handler: Handler, event: str) -> None:
        if not bind:
            return
        address, port = split_host_port(bind)
        if not self._config.bind_address_hard_fail:
            http.keep_trying(address, int(port), handler, what)
            return
        try:
            http.listen(address, int(port), handler)
        except ListenError as error:
            self._record(EventType.WARNING, event, f"{what} failed: {error}")
            self._cluster.recorder.flush(_FLUSH_SECONDS)
            raise StartError(f"{what} failed: {error}") from error

    def _health_check_failed(self, service: ServiceName, port: int, error: ListenError) -> None:
        regarding = ObjectReference("Service", service.name, service.namespace)
        note = f'node {self._name} failed to start healthcheck "{service}" on port {port}: {error}'
        self._cluster.recorder.event(regarding, EventType.WARNING, "FailedToStartServiceHealthcheck", "Listen", note)
        if not self._retrying:
            self._retrying = True
            retry = threading.Timer(RETRY_SECONDS, self._retry)
            retry.daemon = True
            retry.start()

    def _retry(self) -> None:
        self._retrying = False
        self._inbox.put(Resync())

    def _record(self, type_: EventType, reason: str, note: str) -> None:
        node = ObjectReference("Node", self._name, uid=self._name)
        self._cluster.recorder.event(node, type_, reason, "StartKubeProxy", note)

    # What is watched besides the cluster.

    def _watch(self, here: Surroundings) -> None:
        if self._arguments.config:
            try:
                watch_file(self._arguments.config, lambda: self._end(UPDATED), self._stop)
            except OSError as error:
                raise StartError(f"{error.filename}: {error.strerror}; see fs.inotify.max_user_watches") from error
        if self._config.mode == "ipvs" or not all(site.node_ports.match_all for site in here.sites):
            threading.Thread(target=self._follow_addresses, name="addresses", daemon=True).start()

    def _follow_addresses(self) -> None:
        """Node ports answer on the addresses that the node has now, not on those it had at the start."""
        known: set[str] = set()
        for _ in links.address_changes(self._stop, ignored=DEVICE):
            # Each pod that comes or goes has a link-local address on the node, or one that its neighbours have too.
            elsewhere = (one.address for one in links.addresses() if one.interface != DEVICE)
            now = {address for address in elsewhere if not is_link_local(address)}
            if now != known:
                self._inbox.put(Verify("the node's addresses changed"))
            known = now


def _node_port_addresses(site: Site) -> list[str]:
    return site.node_ports.matching(one.address for one in links.addresses(site.family))


def _listen_addresses(site: Site) -> list[str] | None:
    """Where health-check node ports listen: None for everywhere, as also if the addresses cannot be read."""
    if site.node_ports.match_all:
        return None
    try:
        return _node_port_addresses(site)
    except OSError as error:
        logger.error("health-check node ports listen on all addresses, those of %s are unknown: %s", site.family, error)
        return None


def _set_oom_score(score: int) -> None:
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except OSError as error:
        v(2, logger, "oom_score_adj was not set: %s", error)
