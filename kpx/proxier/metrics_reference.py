"""docs/metrics.md, made from the metrics themselves: ``python -m kpx.proxier.metrics_reference > docs/metrics.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from kpx.proxier.kernel_metrics import AccountingMetrics, ConntrackMetrics
from kpx.proxier.metrics import Metrics

_INTRODUCTION = """\
# Metrics

<!-- Made by `python -m kpx.proxier.metrics_reference`; do not edit. -->

`kpx daemon` serves them at `/metrics` on `metricsBindAddress` (127.0.0.1:10249), in Prometheus's text format and
without authentication. Those of kube-proxy 1.36 have its names, types, labels and buckets, so that dashboards and
alerts for it go on working; those that begin with `kpx_` are kpx's own. A series with labels appears with its first
value: a failure that never happened has none. `ip_family` is `IPv4` or `IPv6`. Alerts and a dashboard are in
`deploy/components/monitoring`.
"""

# What the names of each section begin with.
_SECTIONS = {"kpx's own": "kpx_", "kube-proxy's": "kubeproxy_", "Of the process and the API client": ""}

_MODES = {
    "kubeproxy_iptables": "iptables",
    "kubeproxy_sync_proxy_rules_iptables_restore": "iptables, ipvs",
    "kubeproxy_sync_proxy_rules_iptables": "iptables",
    "kubeproxy_sync_proxy_rules_nftables": "nftables",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A metric: the name that its series have (those of a histogram with _bucket, _sum and _count after it)."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        if self.type != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))

    @property
    def modes(self) -> str:
        """The proxy modes that have it."""
        return next((modes for start, modes in _MODES.items() if self.name.startswith(start)), "all")


def described() -> list[Described]:
    """Every metric that the daemon can show, in the order of names."""
    metrics = Metrics("0")
    # The registry knows its metrics by the collectors that show them; only these know their labels.
    wrapped = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    read = chain(
        ConntrackMetrics().describe(), AccountingMetrics().describe(), ProcessCollector(registry=None).collect()
    )
    return sorted(chain(map(_wrapped, wrapped), _read(read)), key=lambda one: one.name)


def _wrapped(metric: MetricWrapperBase) -> Described:
    (family,) = metric.describe()
    return _family(family, tuple(metric._labelnames))


def _read(families: Iterable[Metric]) -> Iterator[Described]:
    return (_family(family, ()) for family in families)


def _family(family: Metric, labels: tuple[str, ...]) -> Described:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Described(name, family.type, labels, family.documentation.removeprefix("[ALPHA] "))


def reference() -> str:
    """The whole page."""
    sections: dict[str, list[Described]] = {title: [] for title in _SECTIONS}
    for one in described():
        sections[next(title for title, start in _SECTIONS.items() if one.name.startswith(start))].append(one)
    return "\n".join([_INTRODUCTION, *(f"## {title}\n\n{_table(some)}" for title, some in sections.items())])


def _table(metrics: Iterable[Described]) -> str:
    lines = [("Metric", "Type", "Labels", "Modes", "What it is"), ("---",) * 5, *map(_row, metrics)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(one: Described) -> tuple[str, ...]:
    return f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.modes, one.text


if __name__ == "__main__":
    sys.stdout.write(reference())
