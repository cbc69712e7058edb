"""Which conntrack settings the configuration asks for."""

from __future__ import annotations

import pytest

from kpx.config.duration import Duration
from kpx.config.types import Conntrack, Int32
from kpx.proxier.sysctls import conntrack_limit, conntrack_settings, host_cores

PREFIX = "net/netfilter/nf_conntrack_"


@pytest.mark.parametrize(
    ("per_core", "minimum", "cores", "limit"),
    [
        (0, 131072, 4, 0),
        (32768, 131072, 2, 131072),
        (32768, 131072, 4, 131072),
        (32768, 131072, 8, 262144),
        (32768, 131072, 64, 1048576),
        (32768, 2000000, 8, 2000000),
        (32768, 2000000, 64, 1048576),
        (1, 0, 3, 3),
    ],
)
def test_the_limit(per_core: int, minimum: int, cores: int, limit: int) -> None:
    assert conntrack_limit(Conntrack(max_per_core=Int32(per_core), min=Int32(minimum)), cores) == limit


def test_what_is_set_by_default() -> None:
    assert conntrack_settings(Conntrack(), cores=4) == [
        (PREFIX + "max", 131072),
        (PREFIX + "tcp_timeout_established", 86400),
        (PREFIX + "tcp_timeout_close_wait", 3600),
    ]


def test_what_is_zero_is_left_alone_and_seconds_are_whole() -> None:
    nothing = Duration()
    config = Conntrack(max_per_core=Int32(0), tcp_established_timeout=nothing, tcp_close_wait_timeout=nothing)
    assert conntrack_settings(config, cores=4) == []
    config = Conntrack(
        max_per_core=Int32(0),
        tcp_established_timeout=nothing,
        tcp_close_wait_timeout=Duration.parse("900ms"),
        tcp_be_liberal=True,
        udp_timeout=Duration.parse("1m30s"),
        udp_stream_timeout=Duration.parse("3m0.9s"),
    )
    assert conntrack_settings(config, cores=4) == [
        (PREFIX + "tcp_be_liberal", 1),
        (PREFIX + "udp_timeout", 90),
        (PREFIX + "udp_timeout_stream", 180),
    ]


def test_the_machine_has_cores() -> None:
    assert host_cores() >= 1
