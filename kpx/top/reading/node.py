"""One reading of the node: what is due is read anew, the rest is as it was. What fails is a fault, and no more."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import replace

from kpx.kernel.iptables.program import IptablesError
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable, loaded
from kpx.kernel.netlink import DumpInterrupted
from kpx.kernel.nft.errors import GenerationChanged
from kpx.kernel.sysctl import SysctlError
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.published import Status
from kpx.tables.ipvs.snapshot import take
from kpx.tools import held, services
from kpx.tools.cluster import Options
from kpx.tools.daemon import Daemon
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Destination, Port
from kpx.top import entries
from kpx.top.pace import Pace, processor_seconds
from kpx.top.reading import proxier
from kpx.top.reading.counters import Counters, compare, refreshed
from kpx.top.reading.differences import Comparison
from kpx.top.reading.flows import FlowTable, Gauge
from kpx.top.reading.path import Path
from kpx.top.reading.rules import rules_of
from kpx.top.reading.wanted import Wanted
from kpx.top.sampler import FASTEST
from kpx.top.snapshot import (
    NO_DIFFERENCES,
    Counted,
    Counts,
    Focus,
    NodeFacts,
    Rules,
    RulesTable,
    Snapshot,
    StockSyncs,
    Traced,
    TraceWish,
)

# The parts of a processor that readings may take: what changes, what is counted, whose flows there are, and what
# somebody looks at.
_FOLLOW_SHARE, _COUNTERS_SHARE, _FLOWS_SHARE, _SHOWN_SHARE = 0.02, 0.04, 0.02, 0.03
# A proxier that does not tell by itself is asked so often, in seconds.
_STOCK_SECONDS = 5.0
_LISTED_FLOWS = 200
# The kernel is compared with what is wanted so often, in seconds, and sooner to confirm what was found.
_COMPARE_SHARE, _COMPARE_SECONDS, _SOON_SECONDS = 0.02, 5.0, 1.0

_EXPECTED = (ToolError, IptablesError, IpvsUnavailable, OSError)


class NodeReader:
    """Reads the node of the network namespace of the calling thread, always the same one."""

    def __init__(self, options: Options) -> None:
        self._wanted = Wanted(options)
        self._counters = Counters()
        self._flows = FlowTable()
        self._gauge = Gauge()
        self._path = Path()
        self._follow_pace = Pace(_FOLLOW_SHARE)
        self._count_pace = Pace(_COUNTERS_SHARE, FASTEST)
        self._visible_pace = Pace(_SHOWN_SHARE, FASTEST)
        self._flow_pace = Pace(_FLOWS_SHARE)
        self._shown_pace = Pace(_SHOWN_SHARE)
        self._comparison = Comparison()
        self._compare_pace = Pace(_COMPARE_SHARE)
        self._compare_pace.done(time.monotonic(), 0.0, _SOON_SECONDS)  # first what is quick
        self._stock_pace = Pace(_SHOWN_SHARE, _STOCK_SECONDS)
        self._failures_before = 0
        self._counted_at = 0.0
        self._visible_at: dict[ServicePortName, float] = {}
        self._held: tuple[float, Counts] | None = None
        self._focus = Focus()
        self._status: Status | None = None
        self._faults: dict[str, str] = {}
        self._last = Snapshot(0.0)

    def read(self, focus: Focus) -> Snapshot:
        """Read what is due for somebody who looks at `focus`."""
        if focus != self._focus:
            self._shown_pace.at_once()
            self._flow_pace.at_once()
            self._last = replace(self._last, rules=None, traced=None, kernel=None)
        self._focus = focus
        self._try("conntrack", self._read_gauge)
        known = self._last.services
        self._try("services", self._read_wanted)
        self._try("syncs", self._read_stock)
        if known:  # else what is known now is to be shown first
            self._try("counters", self._read_counters)
            self._try("flows", self._read_flows)
            self._try("differences", self._compare)
            self._try("shown", self._read_shown)
        self._last = replace(
            self._last,
            wall=time.time(),
            node=self._facts(),
            notes=self._wanted.notes,
            faults=tuple(dict.fromkeys(self._faults.values())),
        )
        return self._last

    def _try(self, what: str, read: Callable[[], bool]) -> None:
        """Read something, which tells whether it was due. What went wrong is a fault until it goes well."""
        try:
            if read():
                self._faults.pop(what, None)
        except Exception as error:  # whatever it is, the other readings go on, and the screen says it
            self._faults[what] = told(error)

    def _read_gauge(self) -> bool:
        self._last = replace(self._last, table=self._gauge.read(time.monotonic()))
        return True

    def _read_wanted(self) -> bool:
        """Follow the daemon, or read everything when it is time to."""
        if self._wanted.daemon is not None:
            changed = self._follow(self._wanted.daemon)
        elif self._wanted.due:
            changed = self._wanted.read_paced()
            self._last = replace(self._last, syncs=None)
        else:
            return False
        if changed:
            self._last = replace(self._last, services=self._wanted.services, widths=self._wanted.widths)
            self._counters.learn(self._wanted.ports)
            self._flows.learn(self._wanted.ports)
        if self._wanted.daemon is not None and (changed or self._status is None):
            self._status = self._wanted.daemon.status()
        return True

    def _follow(self, daemon: Daemon) -> bool:
        """Take what the daemon has done since; whether it changed anything. A daemon that stays away is given up."""
        started, used = time.monotonic(), processor_seconds()
        try:
            syncs = proxier.read_syncs(daemon, everything=self._focus.page == "syncs")
            self._last = replace(self._last, syncs=syncs)
            if not self._follow_pace.due(started):
                return False
            changed = self._wanted.follow(syncs.syncs)
        except ToolError:
            self._status = None
            if not (self._wanted.lost() and self._wanted.due):
                raise
            return self._wanted.read_paced()
        self._follow_pace.done(started, processor_seconds() - used)
        return changed

    def _read_stock(self) -> bool:
        started = time.monotonic()
        if self._wanted.daemon is not None:
            self._last = replace(self._last, stock=None)
            return True
        if not self._stock_pace.due(started):
            return False
        self._last = replace(self._last, stock=self._watched(proxier.stock_syncs(proxier.stock_metrics())))
        self._stock_pace.done(started, 0.0)
        return True

    def _watched(self, stock: StockSyncs | None) -> StockSyncs | None:
        """What failed since this was first seen: the metrics count from the proxier's start, which may be weeks ago."""
        if stock is None:
            return None
        if self._last.stock is None or stock.failures < self._failures_before:
            self._failures_before = stock.failures
        return replace(stock, new_failures=stock.failures - self._failures_before)

    def _read_counters(self) -> bool:
        """Count everything when it is time to; those in sight more often, where they can be counted alone."""
        started, used, before = time.monotonic(), processor_seconds(), self._last.counted
        if not self._count_pace.due(started):
            return before is not None and self._read_visible(started, before)
        counts = self._counters.read(self._mode)
        counted = None
        if counts is not None:
            fresher = {port: started - at for port, at in self._visible_at.items()}
            counted = compare(before.counts if before else None, counts, started - self._counted_at, fresher)
        self._last = replace(self._last, counted=counted)
        self._counted_at, self._visible_at = started, {}
        self._count_pace.done(started, processor_seconds() - used)
        return True

    def _read_visible(self, started: float, before: Counted) -> bool:
        used = processor_seconds()
        if not self._visible_pace.due(started):
            return False
        some = self._counters.read_some(self._focus.visible)
        self._visible_pace.done(started, processor_seconds() - used)
        if not some:
            return False
        seconds = {port: started - self._visible_at.get(port, self._counted_at) for port in some}
        self._last = replace(self._last, counted=refreshed(before, some, seconds))
        self._visible_at |= dict.fromkeys(some, started)
        return True

    def _read_flows(self) -> bool:
        started, used = time.monotonic(), processor_seconds()
        if not self._flow_pace.due(started):
            return False
        self._last = replace(self._last, flows=self._flows.read(self._focus.flows, _LISTED_FLOWS))
        self._flow_pace.done(started, processor_seconds() - used)
        return True

    def _compare(self) -> bool:
        """Compare what is wanted with what the kernel holds, where anybody tells what is wanted."""
        started, used, found = time.monotonic(), processor_seconds(), self._wanted.cluster
        if found is not None and found.source == "kernel":  # whoever told what is wanted is gone
            self._comparison = Comparison()
            self._last = replace(self._last, differences=NO_DIFFERENCES)
            return True
        if found is None or not self._compare_pace.due(started):
            return False
        try:
            self._last = replace(self._last, differences=self._comparison.read(found))
        finally:
            least = _SOON_SECONDS if self._comparison.unconfirmed else _COMPARE_SECONDS
            self._compare_pace.done(started, processor_seconds() - used, least)
        return True

    def _read_shown(self) -> bool:
        """What only one page shows."""
        started = time.monotonic()
        if not self._shown_pace.due(started):
            return False
        focus, used = self._focus, processor_seconds()
        if focus.page == "rules" and focus.rules is None:
            self._last = replace(self._last, kernel=self._read_tables(started))
        elif focus.rules is not None:
            self._last = replace(self._last, rules=Rules(focus.rules, rules_of(self._ports(focus.rules))))
        elif focus.trace is not None:
            self._last = replace(self._last, traced=self._walk(focus.trace))
        self._shown_pace.done(started, processor_seconds() - used)
        return True

    def _walk(self, wish: TraceWish) -> Traced:
        told = self._wanted.cluster is not None and self._wanted.cluster.source != "kernel"
        return self._path.read(wish, self._ports(wish.port), told=told)

    def _read_tables(self, started: float) -> RulesTable | None:
        """The whole table, as the kernel holds it."""
        if loaded():  # opening would load it
            with Ipvs() as ipvs:
                tables = take(ipvs, None)
            if tables.rows:
                return entries.of_ipvs(tables, self._focus.view)
        found = held.read(self._mode)
        if found is None:
            return None
        ports = found.ports()
        counts = services.count(found, ports)
        before, self._held = self._held, None
        if counts:
            after = _merged(counts)
            counted = compare(before[1] if before else None, after, started - before[0] if before else 0.0)
            self._held = started, after
            return entries.of_rules(found.program, ports, counted)
        return entries.of_rules(found.program, ports, None)

    def _ports(self, port: ServicePortName) -> list[Port]:
        return [one for one in self._wanted.ports if one[1].port == port]

    @property
    def _mode(self) -> str:
        return self._wanted.cluster.mode if self._wanted.cluster else ""

    def _facts(self) -> NodeFacts:
        found = self._wanted.cluster
        if found is None:
            return NodeFacts()
        running = ""
        if self._wanted.daemon is not None and self._status is not None:
            running = f"kpx {self._status.version}"
        elif self._last.stock is not None:
            version = self._last.stock.version
            running = f"{'kpx' if 'kpx' in version else 'kube-proxy'} {version}".strip()
        mode = found.mode or self._counters.program.rpartition("mode ")[2]
        return NodeFacts(found.node, mode, running, found.source)


def _merged(counts: services.Connections) -> Counts:
    """The counts of both families together."""
    merged: dict[ServicePortName, dict[Destination, int]] = {}
    for (_, port), some in counts.items():
        merged.setdefault(port, {}).update(some)
    return merged


def told(error: Exception) -> str:
    """A failure as a sentence that says what to do, where that is known. Pure."""
    if isinstance(error, SysctlError) and error.errno == errno.ENOENT:
        return "no connections are tracked here: nf_conntrack is not loaded"
    if isinstance(error, OSError) and error.errno in (errno.EPERM, errno.EACCES):
        return "the kernel shows this only to root (CAP_NET_ADMIN): run it with sudo"
    if isinstance(error, (GenerationChanged, DumpInterrupted)):
        return "the kernel's tables change too fast to be read as one state: trying again"
    return str(error) if isinstance(error, _EXPECTED) and str(error) else f"{type(error).__name__}: {error}"
