"""The network namespaces at the other ends of this one's links: of pods, where links are pairs of veth.

Layouts: ``linux/if_link.h``, ``linux/net_namespace.h``.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from kpx.kernel.links import NETLINK_ROUTE
from kpx.kernel.netlink import NetlinkError, Socket, attribute, attributes, read_whole, string
from kpx.kernel.network_namespaces import others

_RTM_GETLINK, _RTM_GETNSID = 18, 90
_IFINFOMSG = struct.Struct("=BxHiII")
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINK_NETNSID = 3, 10, 37
_NETNSA_NSID, _NETNSA_FD = 1, 3
_NOT_ASSIGNED = -1


def peers() -> list[tuple[str, Path]]:
    """Interfaces of this network namespace, each with the namespace that its other end is in.

    Those are found that have a name (as container runtimes give them) or a process in them.
    """
    with Socket(NETLINK_ROUTE) as netlink:
        linked = {number: name for name, number, _ in _links(netlink) if number is not None}
        found = []
        for path in others():
            number = _number(netlink, path) if linked else None
            if number in linked:
                found.append((linked[number], path))
    return found


def masters() -> dict[str, list[str]]:
    """The interfaces that belong to a bridge or a bond, by that."""
    found: dict[str, list[str]] = {}
    names = {number: name for number, name in socket.if_nameindex()}
    with Socket(NETLINK_ROUTE) as netlink:
        for name, _, master in _links(netlink):
            if master in names:
                found.setdefault(names[master], []).append(name)
    return found


def _links(netlink: Socket) -> Iterator[tuple[str, int | None, int]]:
    """Name, number of the other end's namespace, and master of each interface."""
    request = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for reply in read_whole(lambda: netlink.dump(_RTM_GETLINK, request, "list the interfaces")):
        values = dict(attributes(reply.payload[_IFINFOMSG.size :]))
        number = struct.unpack("=i", values[_IFLA_LINK_NETNSID])[0] if _IFLA_LINK_NETNSID in values else None
        master = struct.unpack("=I", values[_IFLA_MASTER])[0] if _IFLA_MASTER in values else 0
        yield string(values[_IFLA_IFNAME]), number, master


def _number(netlink: Socket, namespace: Path) -> int | None:
    """The number that this network namespace has for another; None if it has none."""
    try:
        with namespace.open("rb") as handle:
            request = b"\0\0\0\0" + attribute(_NETNSA_FD, struct.pack("=I", handle.fileno()))
            replies = netlink.request(_RTM_GETNSID, 0, request, f"find the number of {namespace}")
    except (OSError, NetlinkError):
        return None
    values = dict(attributes(replies[0].payload[4:])) if replies else {}
    number = struct.unpack("=i", values[_NETNSA_NSID])[0] if _NETNSA_NSID in values else _NOT_ASSIGNED
    return None if number == _NOT_ASSIGNED else number
