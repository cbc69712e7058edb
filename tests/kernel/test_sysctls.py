"""Settings written at the start, in a network namespace that may not set all of them."""

from __future__ import annotations

import errno
import logging

import pytest

from kpx.config.duration import Duration
from kpx.config.types import Conntrack, Int32
from kpx.kernel import sysctl
from kpx.kernel.sysctl import SysctlError
from kpx.proxier import sysctls

PREFIX = "net/netfilter/nf_conntrack_"
WITHOUT_LIMIT = Conntrack(
    max_per_core=Int32(0),
    tcp_established_timeout=Duration.parse("2h"),
    tcp_close_wait_timeout=Duration.parse("61s"),
    tcp_be_liberal=True,
    udp_timeout=Duration.parse("20s"),
    udp_stream_timeout=Duration.parse("99s"),
)


def test_the_time_outs_are_set() -> None:
    assert not sysctls.conntrack_is_liberal()
    sysctls.apply_conntrack(WITHOUT_LIMIT, cores=2)
    names = ["tcp_timeout_established", "tcp_timeout_close_wait", "tcp_be_liberal", "udp_timeout", "udp_timeout_stream"]
    assert [sysctl.read_int(PREFIX + name) for name in names] == [7200, 61, 1, 20, 99]
    assert sysctls.conntrack_is_liberal()


def test_route_localnet() -> None:
    assert sysctl.read(sysctls.ROUTE_LOCALNET) == "0"
    sysctls.enable_route_localnet()
    sysctls.enable_route_localnet()
    assert sysctl.read(sysctls.ROUTE_LOCALNET) == "1"


def test_a_limit_that_cannot_be_set_here_is_an_error_with_a_remedy(caplog: pytest.LogCaptureFixture) -> None:
    current = sysctl.read_int(PREFIX + "max")
    config = Conntrack(max_per_core=Int32(1), min=Int32(current - 1))
    with pytest.raises(SysctlError) as refused:
        sysctls.apply_conntrack(config, cores=1)
    assert refused.value.read_only
    assert str(refused.value) == (
        f"cannot set /proc/sys/{PREFIX}max to {current - 1}: Permission denied "
        "(only a privileged process in the host's own network namespace may set it; "
        "conntrack.maxPerCore: 0 leaves it as it is)"
    )
    assert f"lowering {PREFIX}max from {current} to {current - 1}" in caplog.text


def test_a_limit_that_is_right_already_is_not_written_and_the_hash_table_is_only_advice(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = sysctl.read_int(PREFIX + "max")
    config = Conntrack(max_per_core=Int32(1), min=Int32(current))
    sysctls.apply_conntrack(config, cores=1)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    monkeypatch.setattr(sysctls, "_HASH_SIZE", "/sys/module/none/hashsize")
    sysctls.apply_conntrack(config, cores=1)
    assert "cannot read /sys/module/none/hashsize: No such file or directory; lookups in a full" in caplog.text


@pytest.mark.parametrize(
    ("action", "code", "sentence"),
    [
        (lambda: sysctl.read("net/none"), errno.ENOENT, "cannot read /proc/sys/net/none: No such file or directory"),
        (lambda: sysctl.write("net/none", 1), errno.ENOENT, "cannot set /proc/sys/net/none to 1: No such file or dir"),
        (lambda: sysctl.write("net/ipv4/ip_forward", "x"), errno.EINVAL, "net/ipv4/ip_forward to x: Invalid argument"),
        (lambda: sysctl.read_int("kernel/ostype"), errno.EINVAL, "/proc/sys/kernel/ostype holds 'Linux', which is no"),
    ],
)
def test_errors_name_the_file(action: object, code: int, sentence: str) -> None:
    assert callable(action)
    with pytest.raises(SysctlError, match=sentence) as refused:
        action()
    assert refused.value.errno == code
    assert not refused.value.read_only
