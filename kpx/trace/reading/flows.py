"""The flows of a target in the kernel's connection tracking table."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from kpx.kernel import conntrack
from kpx.kernel.netlink import NETLINK_NETFILTER, DumpInterrupted, NetlinkError, Socket
from kpx.tools.flows import ShownFlow, shown
from kpx.trace.answer import Flows
from kpx.trace.result import Trace

SHOWN = 5
NUMBERS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}


def flows_to(trace: Trace) -> Flows:
    """The flows that clients have to the address and port that was traced."""
    found: list[ShownFlow] = []
    count, complete = 0, True
    try:
        for flow in _flows(trace):
            count += 1
            if len(found) < SHOWN:
                found.append(shown(flow, None))
    except (DumpInterrupted, NetlinkError):
        complete = False  # no connections are tracked here, or the table was made anew while it was read
    return Flows(tuple(found), count, complete)


def _flows(trace: Trace) -> Iterator[conntrack.Flow]:
    target = trace.target
    with Socket(NETLINK_NETFILTER) as netlink:
        yield from conntrack.dump_to(netlink, NUMBERS[target.protocol], trace.destination, target.port)
