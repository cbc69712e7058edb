"""What a sync leaves in the metrics."""

from __future__ import annotations

from kpx.net import Family
from kpx.proxier.backend import Outcome
from kpx.proxier.desired import Delta
from kpx.proxier.measure import Measure
from kpx.proxier.metrics import Metrics
from kpx.proxier.observer import Sync


def test_what_the_kernel_would_not_remove_is_counted() -> None:
    metrics = Metrics("0.1.0")
    measure = Measure(metrics, "nftables")
    for unremoved in (False, True, True):
        outcome = Outcome({}, {}, unremoved=unremoved)
        measure.synced(Sync(Family.IPV6, False, 0.1, Delta({}, {}), {}, outcome))

    shown = metrics.render().decode()
    assert 'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv6"} 2' in shown
    assert "nftables_sync_failures_total{" not in shown
