"""What the proxier tells of itself: the kpx daemon on its socket, a kube-proxy in its metrics."""

from __future__ import annotations

import http.client
import re

from kpx.tools.daemon import Daemon
from kpx.tools.stock import PORT
from kpx.top.snapshot import StockSyncs, Syncs

_SECONDS = 1.0
_VERSION = re.compile(r'^kubernetes_build_info{.*git_version="([^"]*)"', re.MULTILINE)
_SERIES = re.compile(r"^(\w+)(?:{[^}]*})? (\S+)$", re.MULTILINE)
_PREFIX = "kubeproxy_sync_proxy_rules_"


def read_syncs(daemon: Daemon, *, everything: bool) -> Syncs:
    """What the daemon tells of its syncs; what it leaves out only if `everything` is asked for. Raises `ToolError`."""
    left_out = daemon.rejected() if everything else None
    return Syncs(
        daemon.status().families,
        daemon.syncs().syncs,
        left_out.rejected if left_out else (),
        left_out.conflicts if left_out else (),
    )


def stock_metrics(port: int = PORT) -> str:
    """The metrics of the proxier on this node; empty where there are none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.read().decode(errors="replace") if answer.status == http.HTTPStatus.OK else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def stock_syncs(metrics: str) -> StockSyncs | None:
    """What a kube-proxy's metrics tell of its syncs; None if they do not. Both families together. Pure."""
    found: dict[str, float] = {}
    for name, value in _SERIES.findall(metrics):
        if name.startswith(_PREFIX):
            key = name.removeprefix(_PREFIX)
            number = float(value)
            found[key] = max(found.get(key, 0.0), number) if key.endswith("_seconds") else found.get(key, 0.0) + number
    if "duration_seconds_count" not in found:
        return None
    version = _VERSION.search(metrics)
    syncs = int(found["duration_seconds_count"])
    failures = sum(int(value) for key, value in found.items() if key.endswith("_failures_total"))
    return StockSyncs(
        version=version[1] if version else "",
        last=found.get("last_timestamp_seconds", 0.0),
        queued=found.get("last_queued_timestamp_seconds", 0.0),
        syncs=syncs,
        mean_seconds=found.get("duration_seconds_sum", 0.0) / syncs if syncs else 0.0,
        failures=failures,
    )
