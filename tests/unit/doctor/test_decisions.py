"""Small decisions of the checks."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from kpx.doctor.fixes import dotted_name
from kpx.doctor.runbooks.nodeport import _reserved
from kpx.doctor.runbooks.packets import _next
from kpx.doctor.runbooks.sync import _percentile
from kpx.tools.stock import reached

BUCKETS = "kubeproxy_sync_proxy_rules_duration_seconds_bucket"


def metrics(**counts: float) -> Mapping[str, list[tuple[Mapping[str, str], float]]]:
    edges = {"tenth": "0.1", "second": "1", "all": "+Inf"}
    return {BUCKETS: [({"ip_family": "IPv4", "le": edges[name]}, value) for name, value in counts.items()]}


def test_a_percentile_is_the_edge_of_its_bucket() -> None:
    assert _percentile(metrics(tenth=99, second=100, all=100), 0.99) == 0.1
    assert _percentile(metrics(tenth=98, second=100, all=100), 0.99) == 1
    assert _percentile(metrics(tenth=0, second=0, all=3), 0.99) == math.inf
    assert _percentile(metrics(tenth=0, second=0, all=0), 0.99) is None
    assert _percentile({}, 0.99) is None


@pytest.mark.parametrize(
    ("port", "ranges", "held"),
    [(30080, "", False), (30080, "30000-32767", True), (30080, "80,30080", True), (29999, "80,30000-32767", False)],
)
def test_reserved_ports(port: int, ranges: str, held: bool) -> None:
    assert _reserved(port, ranges) is held


@pytest.mark.parametrize(
    ("network", "host"),
    [
        ("203.0.113.0", "203.0.113.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::", "2001:db8::1"),
        ("fd00::5", "fd00::5"),
    ],
)
def test_a_host_of_a_network(network: str, host: str) -> None:
    assert _next(network) == host


@pytest.mark.parametrize(
    ("bound", "where"),
    [
        ("", ("127.0.0.1", 10256)),
        ("0.0.0.0:10256", ("127.0.0.1", 10256)),
        ("10.0.0.1:9000", ("10.0.0.1", 9000)),
        ("[::]:9000", ("127.0.0.1", 9000)),
        ("[fd00::1]:9000", ("fd00::1", 9000)),
    ],
)
def test_where_a_server_answers(bound: str, where: tuple[str, int]) -> None:
    assert reached(bound, 10256) == where


def test_a_sysctl_of_an_interface_with_a_dot_in_its_name() -> None:
    assert dotted_name("net/ipv4/conf/eth0.7/rp_filter") == "net.ipv4.conf.eth0/7.rp_filter"
