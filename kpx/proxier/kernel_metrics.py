"""Metrics that are read from the kernel when they are asked for."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kpx.kernel import conntrack, nfacct
from kpx.kernel.sysctl import SysctlError

# kube-proxy's metric, its help text, and the accounting object that the rules of iptables mode count in.
_ACCOUNTING = (
    (
        "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
        "packets dropped by iptables to work around conntrack problems",
        "ct_state_invalid_dropped_pkts",
    ),
    (
        "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
        "Number of packets accepted on nodeports of loopback interface",
        "localhost_nps_accepted_pkts",
    ),
)


class AccountingMetrics(Collector):
    """kube-proxy's metrics of packets counted by iptables rules; absent where the kernel has no such objects."""

    def describe(self) -> Iterator[Metric]:
        for name, text, _ in _ACCOUNTING:
            yield CounterMetricFamily(name, f"[ALPHA] {text}")

    def collect(self) -> Iterator[Metric]:
        for name, text, accounting_object in _ACCOUNTING:
            try:
                packets = nfacct.packets(accounting_object)
            except (nfacct.AccountingUnsupported, OSError):
                continue
            if packets is not None:
                yield CounterMetricFamily(name, f"[ALPHA] {text}", packets)


_CONNTRACK = {
    "kpx_conntrack_entries": "Entries in the conntrack table",
    "kpx_conntrack_entries_limit": "Entries at which the kernel drops new connections",
    "kpx_conntrack_seconds_to_full": "Time until the conntrack table is full if it grows as in the last 5 minutes",
}


class Growth:
    """How fast a table fills, from the numbers of its entries over the last `window` seconds. Pure."""

    def __init__(self, window: float = 300) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, now: float, entries: int) -> None:
        self._samples.append((now, entries))
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()

    def seconds_to(self, limit: int) -> float:
        """The time until the table holds `limit` entries if it goes on like this.

        Infinite if it does not grow, and for a limit of 0, which is none.
        """
        (first, before), (last, entries) = self._samples[0], self._samples[-1]
        if limit and entries >= limit:
            return 0.0
        return (limit - entries) * (last - first) / (entries - before) if limit and entries > before else math.inf


class ConntrackMetrics(Collector):
    """The use of the conntrack table; absent while the kernel has none."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._growth = Growth()

    def describe(self) -> Iterator[Metric]:
        for name, text in _CONNTRACK.items():
            yield GaugeMetricFamily(name, text)

    def collect(self) -> Iterator[Metric]:
        try:
            entries, limit = conntrack.count(), conntrack.limit()
        except SysctlError:
            return
        self._growth.sample(self._monotonic(), entries)
        values = (entries, limit, self._growth.seconds_to(limit))
        for (name, text), value in zip(_CONNTRACK.items(), values, strict=True):
            yield GaugeMetricFamily(name, text, value)
