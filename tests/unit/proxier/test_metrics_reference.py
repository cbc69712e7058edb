"""docs/metrics.md: made from the metrics themselves."""

from __future__ import annotations

from pathlib import Path

from kpx.proxier.metrics_reference import described, reference

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "metrics.md"
FIXTURES = ROOT / "tests" / "fixtures" / "kube-proxy-1.36"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference(), "run: python -m kpx.proxier.metrics_reference > docs/metrics.md"


def test_every_metric_of_kube_proxy_is_described_as_kube_proxy_does() -> None:
    mine = {f"# TYPE {one.name} {one.type}" for one in described()}
    theirs = [
        line
        for mode in ("iptables", "nftables")
        for line in (FIXTURES / f"metrics-{mode}.txt").read_text().splitlines()
        if line.startswith("# TYPE kubeproxy_")
    ]
    assert theirs
    assert set(theirs) <= mine
