"""Kernel settings written before the first sync: the size and the time-outs of conntrack, and route_localnet.

Source: kube-proxy 1.36.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from kpx.config.types import Conntrack
from kpx.kernel import sysctl
from kpx.kernel.sysctl import SysctlError
from kpx.logs import v

logger = logging.getLogger(__name__)

ROUTE_LOCALNET = "net/ipv4/conf/all/route_localnet"

_LIMIT = "net/netfilter/nf_conntrack_max"
_HASH_SIZE = "/sys/module/nf_conntrack/parameters/hashsize"
_BE_LIBERAL = "net/netfilter/nf_conntrack_tcp_be_liberal"
_ENTRIES_PER_BUCKET = 4
_MOST_ENTRIES = 1 << 20
_ONLINE_CPUS = Path("/sys/devices/system/cpu/online")


def conntrack_limit(config: Conntrack, cores: int) -> int:
    """The number of flows to allow on a machine of `cores`; 0 leaves the kernel's limit as it is."""
    wanted = config.max_per_core * cores
    return _MOST_ENTRIES if wanted > _MOST_ENTRIES else max(wanted, config.min) if wanted > 0 else 0


def conntrack_settings(config: Conntrack, cores: int) -> list[tuple[str, int]]:
    """The sysctls to set, in order, with their values; what the configuration leaves at zero is not among them."""
    wanted = [
        (_LIMIT, conntrack_limit(config, cores)),
        ("net/netfilter/nf_conntrack_tcp_timeout_established", int(config.tcp_established_timeout.seconds)),
        ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", int(config.tcp_close_wait_timeout.seconds)),
        (_BE_LIBERAL, int(config.tcp_be_liberal)),
        ("net/netfilter/nf_conntrack_udp_timeout", int(config.udp_timeout.seconds)),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", int(config.udp_stream_timeout.seconds)),
    ]
    return [(name, value) for name, value in wanted if value > 0]


def apply_conntrack(config: Conntrack, cores: int) -> None:
    """Set what the configuration asks for; raises `SysctlError` with a remedy for what cannot be set."""
    for name, value in conntrack_settings(config, cores):
        try:
            set_to(name, value)
        except SysctlError as error:
            raise _with_remedy(name, error) from error
        if name == _LIMIT:
            _grow_hash_table(value // _ENTRIES_PER_BUCKET)


def set_to(name: str, value: int) -> None:
    """Set a numeric sysctl unless it already has the value."""
    try:
        current: int | None = sysctl.read_int(name)
    except SysctlError:
        current = None
    if current == value:
        return
    if name == _LIMIT and current is not None and value < current:
        logger.warning("lowering %s from %d to %d, as the configuration says", name, current, value)
    else:
        v(1, logger, "setting %s to %d (was %s)", name, value, current)
    sysctl.write(name, value)


def enable_route_localnet() -> None:
    """Let packets to 127.0.0.0/8 leave the loopback interface: node ports on localhost are DNATed to pods."""
    set_to(ROUTE_LOCALNET, 1)


def conntrack_is_liberal() -> bool:
    """Whether TCP packets outside the window count as valid, so that no rule need drop them."""
    return sysctl.read_int(_BE_LIBERAL) != 0


def host_cores() -> int:
    """The number of CPUs of the machine, whatever the limits of this container."""
    try:
        ranges = re.findall(r"(\d+)(?:-(\d+))?", _ONLINE_CPUS.read_text())
    except OSError:
        return os.cpu_count() or 1
    return sum(int(last or first) - int(first) + 1 for first, last in ranges)


def _grow_hash_table(buckets: int) -> None:
    """A table of more flows than its buckets were made for is slow, not wrong: a failure is only a warning."""
    try:
        if sysctl.read_int(_HASH_SIZE) < buckets:
            sysctl.write(_HASH_SIZE, buckets)
    except SysctlError as error:
        logger.warning("%s; lookups in a full conntrack table will be slow", error)


def _with_remedy(name: str, error: SysctlError) -> SysctlError:
    if not error.read_only:
        return error
    remedy = "only a privileged process in the host's own network namespace may set it"
    if name == _LIMIT:
        remedy += "; conntrack.maxPerCore: 0 leaves it as it is"
    return SysctlError(error.errno or 0, f"{error} ({remedy})")
