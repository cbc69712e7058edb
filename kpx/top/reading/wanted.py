"""The service ports of this node, read again only when they may have changed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kpx.proxier.frontends import ServiceName, ServicePortName
from kpx.proxier.published import SyncRecord
from kpx.tools import cluster, services
from kpx.tools.cluster import Cluster, Options, Untold
from kpx.tools.daemon import Daemon
from kpx.tools.kernel import Port
from kpx.top.cells import service, widths
from kpx.top.pace import Pace, processor_seconds
from kpx.top.snapshot import Service

# Where nobody tells of changes, all is read again so often at most, in seconds, and for this part of a processor.
_LEAST_SECONDS = 10.0
_NO_SYNC = (0, "")
_SHARE = 0.02
# A daemon that does not answer is waited for so long, in seconds, before somebody else is asked.
_PATIENCE_SECONDS = 30.0


class Wanted:
    """Who tells, what they tell, and the rows that are made of it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pace = Pace(_SHARE, _LEAST_SECONDS)
        self._by_port: dict[ServicePortName, list[Port]] = {}
        self._made: dict[ServicePortName, Service] = {}
        self._last_sync: tuple[int, str] | None = None
        self._lost_since = 0.0
        self.cluster: Cluster | None = None
        self.services: tuple[Service, ...] = ()
        self.widths: tuple[int, ...] = ()
        self.notes: tuple[str, ...] = ()

    @property
    def ports(self) -> Sequence[Port]:
        return [port for some in self._by_port.values() for port in some]

    @property
    def daemon(self) -> Daemon | None:
        return self.cluster.daemon if self.cluster else None

    @property
    def due(self) -> bool:
        """Whether it is time to read everything, where nobody tells of changes."""
        return self._pace.due(time.monotonic())

    def read_paced(self) -> bool:
        """Read everything, and not again soon; whether anything is other than it was. Raises `ToolError`."""
        started, used = time.monotonic(), processor_seconds()
        try:
            return self.read()
        finally:
            self._pace.done(started, processor_seconds() - used)

    def read(self) -> bool:
        """Read everything; whether anything is other than it was. Raises `ToolError`."""
        try:
            found = cluster.wanted(self._options)
        except Untold as untold:
            found, _ = cluster.kernel_alone(self._options, untold)
        self.cluster, self.notes = found, found.notes
        by_port: dict[ServicePortName, list[Port]] = {}
        for family, one in found.ports:
            by_port.setdefault(one.port, []).append((family, one))
        changed = {port for port, some in by_port.items() if self._by_port.get(port) != some}
        gone = self._by_port.keys() - by_port.keys()
        self._by_port = by_port
        return self._make(changed, gone)

    def follow(self, syncs: Sequence[SyncRecord]) -> bool:
        """Read what the daemon's last syncs (the newest first) changed; whether they changed anything.

        Raises `ToolError`.
        """
        self._lost_since = 0.0
        known, newest = self._last_sync, _identity(syncs[0]) if syncs else _NO_SYNC
        if known == newest and self.services:
            return False
        news = [sync for sync in syncs if known is not None and sync.number > known[0]]
        # A daemon that was started anew counts anew.
        same = known in (_NO_SYNC, *map(_identity, syncs))
        if (
            known is None
            or not same
            or len(news) != newest[0] - known[0]
            or any(one.changed > len(one.service_ports) for one in news)
        ):
            changed = self.read()
        else:
            changed = self._read_some({_service(text) for one in news for text in one.service_ports})
        self._last_sync = newest
        return changed

    def lost(self) -> bool:
        """The daemon does not answer: whether that has been so for long. When it answers, all is read again."""
        self._last_sync = None
        now = time.monotonic()
        self._lost_since = self._lost_since or now
        return now - self._lost_since > _PATIENCE_SECONDS

    def _read_some(self, names: Iterable[ServiceName]) -> bool:
        assert self.daemon is not None
        changed: set[ServicePortName] = set()
        gone: set[ServicePortName] = set()
        for name in names:
            found: dict[ServicePortName, list[Port]] = {}
            for family, one in self.daemon.frontends(name.name, name.namespace):
                found.setdefault(one.port, []).append((family, one))
            former = {port for port in self._by_port if port.service == name}
            gone |= former - found.keys()
            changed |= {port for port, some in found.items() if self._by_port.get(port) != some}
            for port in former - found.keys():
                del self._by_port[port]
            self._by_port.update(found)
        return self._make(changed, gone)

    def _make(self, changed: Iterable[ServicePortName], gone: Iterable[ServicePortName]) -> bool:
        """Make the rows of what changed."""
        changed, gone = list(changed), list(gone)
        for port in gone:
            self._made.pop(port, None)
        for row in services.rows((one for port in changed for one in self._by_port[port]), None):
            made = service(row)
            self._made[made.port] = made
        if changed or gone:
            self.services = tuple(self._made[port] for port in sorted(self._made))
            self.widths = widths(self.services)
            if self.cluster:
                self.cluster = replace(self.cluster, ports=list(self.ports))
        return bool(changed or gone)


def _identity(sync: SyncRecord) -> tuple[int, str]:
    return sync.number, sync.ended


def _service(text: str) -> ServiceName:
    """The Service of ``ns/name:port``."""
    namespace, _, rest = text.partition("/")
    return ServiceName(namespace, rest.partition(":")[0])
