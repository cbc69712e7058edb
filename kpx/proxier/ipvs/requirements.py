"""What ipvs mode needs of the node, found out at the start: modules, a scheduler, kernel settings.

Source: kube-proxy 1.36 in ipvs mode.
"""

from __future__ import annotations

import logging
import os
import re

from kpx.config.types import IPVS
from kpx.kernel import modules
from kpx.kernel.dummy import Dummy, NotADummy
from kpx.kernel.ipset import Ipsets, IpsetUnavailable
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable, add_virtual, delete_virtual
from kpx.kernel.ipvs.types import Settings, Timeouts, Virtual
from kpx.kernel.netlink import NetlinkError
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.sysctls import set_to

logger = logging.getLogger(__name__)

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh", "lblc", "lblcr", "fo", "ovf")
# An address of documentation (RFC 5737), where no Service is.
_PROBE = Virtual("198.51.100.0", 20000, "TCP")
_MODULES = ("ip_vs", "nf_conntrack", "ip_set", "dummy")


class Missing(Exception):
    """The node lacks something; the text is a sentence with the remedy."""


def required_modules(scheduler: str) -> tuple[str, ...]:
    """The modules that this mode needs with a scheduler."""
    return (*_MODULES, f"ip_vs_{scheduler}")


def check(scheduler: str) -> None:
    """Make sure that the kernel has IPVS, IP sets, dummy devices and the scheduler. Raises `Missing`.

    What can be loaded is loaded. Where a module only seems to be missing, the kernel itself has the last word.
    """
    wanted = required_modules(scheduler)
    failures = modules.load(wanted)
    for name, why in failures.items():
        v(2, logger, "module %s: %s", name, why)
    told = "; ".join(f"{name}: {why}" for name, why in failures.items())
    try:
        with Ipvs() as ipvs, Ipsets():
            _check_scheduler(ipvs, scheduler)
            _check_device()
    except (IpvsUnavailable, IpsetUnavailable) as error:
        raise Missing(f"{error}: {modules.remedy(wanted)}{f' ({told})' if told else ''}") from error


def _check_scheduler(ipvs: Ipvs, scheduler: str) -> None:
    if any(one.settings.scheduler == scheduler for one in ipvs.virtuals()):
        return
    ipvs.apply([delete_virtual(_PROBE)])
    refused = ipvs.apply([add_virtual(_PROBE, Settings(scheduler))])
    ipvs.apply([delete_virtual(_PROBE)])
    if refused:
        known = f"ipvs.scheduler is one of {', '.join(SCHEDULERS)}" if scheduler not in SCHEDULERS else ""
        remedy = known or modules.remedy([f"ip_vs_{scheduler}"])
        raise Missing(f"the kernel has no IPVS scheduler {scheduler!r}: {remedy}")


def _check_device() -> None:
    with Dummy(DEVICE, Family.IPV4) as device:
        try:
            if device.create():
                device.delete()
        except NetlinkError as error:
            raise Missing(f"the kernel makes no dummy device ({error}): {modules.remedy(['dummy'])}") from error
        except NotADummy as error:
            raise Missing(str(error)) from error


def sysctls(config: IPVS, release: str) -> list[tuple[str, int]]:
    """The kernel settings of this mode, in order, for a kernel of this release (``6.1.0-13-amd64``)."""
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return [
        ("net/ipv4/vs/conntrack", 1),
        # Linux 5.9 reuses the port of a client without losing a packet; before, the connection was sent to a dead
        # server, or kept waiting for a second.
        *([("net/ipv4/vs/conn_reuse_mode", 0)] if (4, 1) <= version < (5, 9) else []),
        ("net/ipv4/vs/expire_nodest_conn", 1),
        ("net/ipv4/vs/expire_quiescent_template", 1),
        ("net/ipv4/ip_forward", 1),
        *([("net/ipv4/conf/all/arp_ignore", 1), ("net/ipv4/conf/all/arp_announce", 2)] if config.strict_arp else []),
    ]


def prepare(config: IPVS) -> None:
    """Write the kernel settings and the time-outs. Raises `SysctlError`; a time-out that is refused is only logged."""
    for name, value in sysctls(config, os.uname().release):
        set_to(name, value)
    timeouts = Timeouts(
        int(config.tcp_timeout.seconds), int(config.tcp_fin_timeout.seconds), int(config.udp_timeout.seconds)
    )
    if any(timeouts):
        try:
            with Ipvs() as ipvs:
                ipvs.set_timeouts(timeouts)
        except OSError as error:
            logger.error("%s", error)
