"""The loop: when it syncs, what it does after a failure, how it mends drift. The kernel is a dictionary here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from kpx.cluster.events import Applied, Event, Key, Rejected, Removed, Synced
from kpx.cluster.objects import EndpointSlice, Kind, Metadata, Service, ServiceCIDR, ServiceCIDRSpec
from kpx.net import Family
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta, DesiredState
from kpx.proxier.family import FULL_SYNC_SECONDS, Clocks, FamilyProxier
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.loop import Inbox, Loop, ProxyStopped, Stop, Verify
from kpx.proxier.observer import Observer, Sync
from kpx.proxier.phases import Phase
from kpx.proxier.plan import Viewpoint
from kpx.proxier.runner import SyncSchedule
from tests.unit.proxier.objects import endpoint_slice, service

WEB = ServicePortName("shop", "web", "http", "TCP")


@dataclass
class Kernel:
    """A backend whose kernel is a dictionary; it fails as long as `fault` is set."""

    held: dict[ServicePortName, Frontends] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fault: str = ""
    foreign: str | None = None
    networks: tuple[str, ...] = ()

    def sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Outcome:
        self._fail("sync")
        different = tuple(str(port) for port in frontends if self.held.get(port) != frontends[port])
        self.held = dict(frontends)
        return Outcome({}, {}, repaired=different)

    def update(self, delta: Delta) -> Outcome:
        self._fail("update")
        for port, now in delta.now.items():
            if now is None:
                del self.held[port]
            else:
                self.held[port] = now
        return Outcome({}, {})

    def phases(self) -> dict[Phase, float]:
        return {Phase.WRITE: 0.25}

    def _fail(self, call: str) -> None:
        self.calls.append(call)
        if self.fault:
            raise BackendError(self.fault)

    def service_cidrs(self, networks: tuple[str, ...]) -> bool:
        changed, self.networks = networks != self.networks, networks
        return changed

    def drifted(self) -> str | None:
        foreign, self.foreign = self.foreign, None
        return foreign

    def tend(self) -> None:
        pass

    def cleanup(self) -> None:
        self.held = {}

    def close(self) -> None:
        pass


@dataclass
class Records(Observer):
    syncs: list[Sync] = field(default_factory=list)
    refused: list[tuple[Key, str]] = field(default_factory=list)

    def synced(self, sync: Sync) -> None:
        self.syncs.append(sync)

    def rejected(self, key: Key, reason: str) -> None:
        self.refused.append((key, reason))


class Proxy:
    """A loop whose time is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.kernel, self.records, self.inbox = Kernel(), Records(), Inbox()
        clocks = Clocks(monotonic=lambda: self.now, wall=lambda: self.now)
        schedule = SyncSchedule(minimum=1, retry=30, maximum=FULL_SYNC_SECONDS, now=self.now)
        desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
        family = FamilyProxier(Family.IPV4, desired, self.kernel, schedule, self.records, clocks)
        self.loop = Loop(self.inbox, [family], self.records, clocks)

    def run(self, *events: Event | Verify, after: float = 2.0) -> list[Sync]:
        """Let time pass, deliver events, take a step; return the syncs that it made."""
        self.now += after
        done = len(self.records.syncs)
        for event in events:
            self.inbox.put(event)
        self.loop.step()
        return self.records.syncs[done:]


def applied(thing: Service | EndpointSlice) -> Applied:
    kind = Kind.SERVICE if isinstance(thing, Service) else Kind.ENDPOINT_SLICE
    return Applied(Key(kind, thing.metadata.namespace, thing.metadata.name), thing)


@pytest.fixture
def proxy() -> Proxy:
    return Proxy()


SYNCED = [Synced(kind) for kind in Kind]


def test_nothing_is_programmed_before_every_list_is_complete(proxy: Proxy) -> None:
    assert proxy.run(applied(service()), *SYNCED[:-1]) == []
    assert proxy.kernel.calls == []

    (first,) = proxy.run(SYNCED[-1])

    assert first.full
    assert first.ok
    assert list(proxy.kernel.held) == [WEB]


def test_a_change_is_a_small_sync_and_no_change_is_none(proxy: Proxy) -> None:
    proxy.run(applied(service()), *SYNCED)

    (sync,) = proxy.run(applied(endpoint_slice("shop/web-1", "10.0.0.1")))
    assert not sync.full
    assert proxy.kernel.held[WEB].has_endpoints
    assert proxy.run(applied(endpoint_slice("shop/web-1", "10.0.0.1"))) == []

    proxy.run(Removed(Key(Kind.SERVICE, "shop", "web")))
    assert proxy.kernel.held == {}
    assert proxy.kernel.calls == ["sync", "update", "update"]


def test_changes_within_the_shortest_period_are_one_sync(proxy: Proxy) -> None:
    proxy.run(*SYNCED)
    proxy.run(applied(service()))

    assert proxy.run(applied(endpoint_slice("shop/web-1", "10.0.0.1")), after=0.3) == []
    assert proxy.run(applied(endpoint_slice("shop/web-1", "10.0.0.2")), after=0.3) == []
    (sync,) = proxy.run(applied(endpoint_slice("shop/web-1", "10.0.0.3")), after=0.5)

    assert [one.ip for one in sync.frontends[WEB].endpoints] == ["10.0.0.3"]


def test_a_failed_change_is_retried_with_those_that_came_later(proxy: Proxy) -> None:
    proxy.run(*SYNCED)
    proxy.kernel.fault = "the lock is held"
    (failed,) = proxy.run(applied(service()))
    assert (failed.ok, failed.error) == (False, "the lock is held")
    assert proxy.run(applied(endpoint_slice("shop/web-1", "10.0.0.1")), after=0.5) == []

    proxy.kernel.fault = ""
    (mended,) = proxy.run(after=31)

    assert mended.full
    assert proxy.kernel.held[WEB].has_endpoints
    assert mended.delta.before[WEB] is None
    assert mended.delta.now[WEB] == proxy.kernel.held[WEB]
    assert mended.repaired == ()


def test_drift_is_mended_and_told_apart_from_our_own_change(proxy: Proxy) -> None:
    proxy.run(applied(service()), applied(service("shop/other", clusterIP="10.96.0.2")), *SYNCED)
    del proxy.kernel.held[WEB]
    proxy.kernel.foreign = "chain gone, by someone[1]"

    syncs = proxy.run(applied(endpoint_slice("shop/other-1", "10.0.0.1", of="other")))

    assert [(sync.full, sync.drift, sync.repaired) for sync in syncs] == [
        (True, "chain gone, by someone[1]", ("shop/web:http",))
    ]
    assert len(proxy.kernel.held) == 2


def test_everything_is_compared_once_an_hour_and_on_demand(proxy: Proxy) -> None:
    proxy.run(applied(service()), *SYNCED)

    (hourly,) = proxy.run(after=FULL_SYNC_SECONDS + 1)
    assert (hourly.full, hourly.drift) == (True, "")
    (asked,) = proxy.run(Verify("addresses changed"))
    assert (asked.full, asked.drift) == (True, "")


def test_an_object_that_cannot_be_proxied_is_named_and_the_others_go_on(proxy: Proxy) -> None:
    bad = service("shop/bad", clusterIP="10.96.0.300")
    unreadable = Key(Kind.SERVICE, "shop", "worse")

    proxy.run(applied(bad), Rejected(unreadable, "expected str"), applied(service()), *SYNCED)

    assert [key.name for key, _ in proxy.records.refused] == ["bad", "worse"]
    assert list(proxy.kernel.held) == [WEB]


def test_latency_is_measured_from_the_change_in_the_cluster(proxy: Proxy) -> None:
    proxy.run(applied(service()), *SYNCED)
    late = endpoint_slice("shop/web-1", "10.0.0.1")
    trigger = {"endpoints.kubernetes.io/last-change-trigger-time": "1970-01-01T00:16:43.5Z"}
    late = replace(late, metadata=replace(late.metadata, annotations=trigger))

    (sync,) = proxy.run(applied(late))

    assert sync.latencies == (proxy.now - 1003.5,)


def test_stop_ends_the_loop_and_an_error_ends_it_with_one(proxy: Proxy) -> None:
    proxy.inbox.put(Stop())
    proxy.loop.run()

    proxy.inbox.put(Stop("the configuration changed"))
    with pytest.raises(ProxyStopped, match="the configuration changed"):
        proxy.loop.run()


def test_networks_of_cluster_ips_reach_the_backend_before_the_first_sync_and_after(proxy: Proxy) -> None:
    def cidrs(name: str, *networks: str) -> Applied:
        thing = ServiceCIDR(metadata=Metadata(name=name), spec=ServiceCIDRSpec(list(networks)))
        return Applied(Key(Kind.SERVICE_CIDR, "", name), thing)

    proxy.run(cidrs("kubernetes", "10.96.0.0/16", "fd00:96::/112"), *SYNCED)
    assert [*proxy.kernel.networks] == ["10.96.0.0/16"]

    (sync,) = proxy.run(cidrs("more", "10.112.0.1/16", "nonsense"))
    assert not sync.full
    assert [*proxy.kernel.networks] == ["10.112.0.0/16", "10.96.0.0/16"]
    assert proxy.run(cidrs("more", "10.112.0.0/16")) == []

    proxy.run(Removed(Key(Kind.SERVICE_CIDR, "", "kubernetes")))
    assert [*proxy.kernel.networks] == ["10.112.0.0/16"]
