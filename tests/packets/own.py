"""kpx itself in a run of a scenario: the parts of the daemon, in a thread that lives in the node's namespace."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kpx.cluster.documents import parse
from kpx.cluster.events import Applied, Event, Key, Removed, Synced
from kpx.cluster.objects import Kind
from kpx.cluster.objects import Node as NodeObject
from kpx.cluster.objects import Object as KubernetesObject
from kpx.config.arguments import parse_arguments
from kpx.config.effective import effective_configuration
from kpx.config.types import KubeProxyConfiguration
from kpx.kernel.iptables.program import Iptables
from kpx.kernel.iptables.program import Variant as Programs
from kpx.lab import namespaces
from kpx.lab.topology import NODE
from kpx.net import Family
from kpx.proxier.conntrack import ConntrackCleaner
from kpx.proxier.consequences import CleanConntrack
from kpx.proxier.family import Clocks
from kpx.proxier.iptables.mode import IptablesMode
from kpx.proxier.ipvs.mode import IpvsMode
from kpx.proxier.loop import Inbox, Loop
from kpx.proxier.metrics import Metrics
from kpx.proxier.nftables.mode import NftablesMode
from kpx.proxier.observer import Observer, Observers, Sync
from kpx.proxier.server import family_proxier
from kpx.proxier.site import Mode
from kpx.proxier.surroundings import surroundings
from tests.packets.node import Node, Variant
from tests.packets.scenario import Object

T = TypeVar("T")
_DEADLINE_SECONDS = 30.0


class Kpx:
    """A `Proxy`: what the daemon does with objects and configuration, without its servers and its process."""

    def __init__(self, node: Node, variant: Variant, family: Family) -> None:
        self._family = family
        self._variant = variant
        self._thread = ThreadPoolExecutor(1, initializer=lambda: namespaces.enter(node.namespace))
        self._objects: dict[Key, KubernetesObject] = {}
        self._inbox = Inbox()
        self._metrics = Metrics("0")
        self._syncs = _Syncs()

    def start(self, objects: list[Object], config: dict[str, Any]) -> None:
        self._in_node(lambda: self._start(objects, configuration(config)))

    def update(self, objects: list[Object]) -> None:
        self._in_node(lambda: self._deliver(objects))

    def stop(self) -> None:
        self._in_node(self._stop)
        self._thread.shutdown()

    def _in_node(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()

    def _start(self, objects: list[Object], config: KubeProxyConfiguration) -> None:
        mode = self._mode(config)
        known = read(objects)
        node = next((thing for thing in known.values() if isinstance(thing, NodeObject)), None)
        here = surroundings(config, mode, NODE, node)
        site = here.site(self._family)
        mode.prepare(site)
        self._cleaner = ConntrackCleaner(self._metrics, lambda _: [here.addresses.ips[self._family]])
        self._cleaner.start()
        observer = Observers([self._syncs, CleanConntrack(self._cleaner)])
        clocks = Clocks()
        self._proxier = family_proxier(config, mode, site, here, observer, clocks)
        self._loop = Loop(self._inbox, [self._proxier], observer, clocks)
        self._deliver(objects, first=True)

    def _mode(self, config: KubeProxyConfiguration) -> Mode:
        if self._variant.mode == "nftables":
            return NftablesMode()
        programs = Iptables(self._family, Programs(self._variant.flavour))
        return IpvsMode(config.ipvs.scheduler, programs) if self._variant.mode == "ipvs" else IptablesMode(programs)

    def _deliver(self, objects: list[Object], *, first: bool = False) -> None:
        known = read(objects)
        events: list[Event] = [Removed(key) for key in self._objects if key not in known]
        events += [Applied(key, thing) for key, thing in known.items() if self._objects.get(key) != thing]
        self._objects = known
        for event in [*events, *(Synced(kind) for kind in Kind if first)]:
            self._inbox.put(event)
        before = len(self._syncs.done)
        self._loop.step()
        if len(self._syncs.done) == before:
            self._proxier.sync()
        for sync in self._syncs.done[before:]:
            assert sync.ok, sync.error
            assert not sync.outcome or not sync.outcome.rejected, sync.outcome
        self._await_conntrack()

    def _await_conntrack(self) -> None:
        """The thread that cleans conntrack must have done what the syncs asked of it."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not self._cleaner.idle:
            assert time.monotonic() < deadline, "conntrack was not cleaned in time"
            time.sleep(0.002)

    def _stop(self) -> None:
        if hasattr(self, "_cleaner"):
            self._cleaner.stop()
        if hasattr(self, "_proxier"):
            self._proxier.close()


class _Syncs(Observer):
    def __init__(self) -> None:
        self.done: list[Sync] = []

    def synced(self, sync: Sync) -> None:
        self.done.append(sync)


def configuration(config: dict[str, Any]) -> KubeProxyConfiguration:
    """A configuration file's content as the daemon reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return effective_configuration(parse_arguments(["--config", str(path)]))[0]


def read(objects: list[Object]) -> dict[Key, KubernetesObject]:
    """The objects as a source delivers them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    parts = parse("scenario", text.encode(), NODE, {})
    found = [one for part in parts.values() for one in part]
    assert all(isinstance(one, Applied) for one in found), found
    return {one.key: one.object for one in found if isinstance(one, Applied)}
