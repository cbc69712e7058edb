"""The connection tables: of conntrack, and of IPVS; and the queue in front of them."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from kpx.doctor.facts import Flows, IpvsTable, NotKnown
from kpx.kernel import links
from kpx.kernel.ipvs.connections import total
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable, loaded
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.ipvs.names import DEVICE
from kpx.tools import conntrack_command
from kpx.tools.cluster import Cluster
from kpx.tools.flows import Owners, ShownFlow, Stale, Tally, Usage, shown

_SOFTNET = Path("/proc/net/softnet_stat")
_TOP, _MOST_STALE = 5, 1000
_SECONDS = 0.5


def flows(cluster: Cluster) -> Flows:
    """The whole table, read once."""
    addresses = {one.address for one in links.addresses() if one.interface != DEVICE}
    owners, stale = Owners(cluster.ports, addresses), Stale(cluster.ports, addresses)
    gone: list[tuple[ServicePortName | None, ShownFlow]] = []
    tally, total_flows = Tally(owners), 0
    try:
        with Socket(NETLINK_NETFILTER) as netlink:
            for flow in conntrack_command.flows(netlink):
                tally.add(flow)
                total_flows += 1
                if len(gone) < _MOST_STALE and stale(flow):
                    gone.append((owner := owners.of(flow), shown(flow, owner)))
    except OSError as error:
        raise _not_known(error) from error
    return Flows(tally.services(_TOP), tally.clients(_TOP), tuple(gone), total_flows)


def usage() -> Usage:
    try:
        return conntrack_command.measured(_SECONDS)
    except OSError as error:
        raise _not_known(error) from error


def _not_known(error: OSError) -> Exception:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NotKnown("the conntrack table is for root (CAP_NET_ADMIN): run it with sudo")
    return NotKnown(f"no connections are tracked here: {error}")


def softnet_drops() -> tuple[int, float]:
    """Packets dropped since the kernel started because a processor's queue was full, and how many a second now."""
    first = _softnet()
    time.sleep(_SECONDS)
    after = _softnet()
    return after, (after - first) / _SECONDS


def _softnet() -> int:
    return sum(int(line.split()[1], 16) for line in _SOFTNET.read_text().splitlines())


def ipvs() -> IpvsTable:
    if not loaded():
        raise NotKnown("the kernel has no IPVS at work (module ip_vs)")
    try:
        with Ipvs() as table:
            info, times = table.info(), table.timeouts()
    except IpvsUnavailable as error:
        raise NotKnown(str(error)) from error
    return IpvsTable(info.table_size, total().entries, times.tcp, times.tcp_fin, times.udp)
