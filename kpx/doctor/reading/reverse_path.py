"""Reverse path filtering: where it is strict, what it has dropped, and the rules of routing besides the usual ones.

Layouts: ``linux/fib_rules.h``.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from kpx.doctor.facts import ReversePath
from kpx.kernel import sysctl
from kpx.kernel.links import NETLINK_ROUTE
from kpx.kernel.netlink import Socket, read_whole

_NETSTAT = Path("/proc/thread-self/net/netstat")
_COUNTER, _GROUP = "IPReversePathFilter", "TcpExt:"
_RTM_GETRULE = 34
_FIB_RULE_HDR = struct.Struct("=BBBBBBBBI")
_OWN_RULES = 3  # local, main, default
_CONF = "net/ipv4/conf"


def read() -> ReversePath:
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    everywhere = sysctl.read_int(f"{_CONF}/all/rp_filter")
    strict = tuple(name for name in names if max(everywhere, sysctl.read_int(f"{_CONF}/{name}/rp_filter")) == 1)
    with Socket(NETLINK_ROUTE) as netlink:
        head = _FIB_RULE_HDR.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        rules = read_whole(lambda: netlink.dump(_RTM_GETRULE, head, "list the rules of routing"))
    return ReversePath(strict, everywhere == 1, _dropped(_NETSTAT.read_text()), max(len(rules) - _OWN_RULES, 0))


def _dropped(text: str) -> int:
    """A counter of /proc/net/netstat: a line of names, and a line of values."""
    lines = [line.split() for line in text.splitlines() if line.startswith(_GROUP)]
    names, values = lines[0], lines[1]
    return int(values[names.index(_COUNTER)]) if _COUNTER in names else 0
