"""What a sync leaves in the metrics."""

from __future__ import annotations

from kpx.net import Family
from kpx.proxier.backend import Outcome
from kpx.proxier.desired import Delta, DesiredState
from kpx.proxier.measure import Measure
from kpx.proxier.metrics import Metrics
from kpx.proxier.observer import Sync
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service


def test_what_the_kernel_would_not_remove_is_counted() -> None:
    metrics = Metrics("0.1.0")
    measure = Measure(metrics, "nftables")
    for unremoved in (False, True, True):
        outcome = Outcome({}, {}, unremoved=unremoved)
        measure.synced(Sync(Family.IPV6, False, 0.1, Delta({}, {}), {}, outcome))

    shown = metrics.render().decode()
    assert 'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family="IPv6"} 2' in shown
    assert "nftables_sync_failures_total{" not in shown


def test_services_without_local_endpoints_are_counted_as_the_mode_counts_them() -> None:
    spec = {"externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.1"]}
    ports = [{"name": name, "port": number} for name, number in (("http", 80), ("admin", 81))]
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    desired.tracker.apply_service(service(ports=ports, **spec))
    for port in ports:
        name = str(port["name"])
        desired.tracker.apply_slice(endpoint_slice(f"shop/web-{name}", "10.0.0.1@n2", port=name))
    delta = desired.take()

    shown = {}
    for mode in ("iptables", "ipvs"):
        metrics = Metrics("0.1.0")
        Measure(metrics, mode).synced(Sync(Family.IPV4, False, 0.1, delta, desired.frontends, Outcome({}, {})))
        shown[mode] = metrics.render().decode()

    series = 'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"}'
    assert f"{series} 2" in shown["iptables"]
    assert f"{series} 1" in shown["ipvs"]
