"""The kernel's routing decision for one packet, and the hosts and interfaces next to this node, over rtnetlink.

Layouts: ``linux/rtnetlink.h``, ``linux/neighbour.h``, ``linux/if_link.h``.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from kpx.kernel.links import NETLINK_ROUTE
from kpx.kernel.netlink import NetlinkError, Socket, attribute, attributes, read_whole, string
from kpx.net import Family, family_of, packed

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE, _RTM_GETNEIGH = 18, 22, 26, 30
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_IFINFOMSG = struct.Struct("=BxHiII")
_DST, _SRC, _IIF, _OIF, _GATEWAY, _PREFSRC, _MARK = 1, 2, 3, 4, 5, 7, 16
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_SECONDARY = 1, 2, 1
_NDA_DST, _NUD_FAILED, _NUD_NOARP = 1, 0x20, 0x40
_IFLA_IFNAME, _IFLA_LINKINFO, _INFO_KIND = 3, 18, 1
_SCOPE_UNIVERSE = 0
KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
_REFUSED = {
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EACCES: "prohibit",
    errno.EINVAL: "martian",
    errno.EXDEV: "martian",
}


@dataclass(frozen=True, slots=True)
class Route:
    """Where the kernel sends a packet.

    ``kind`` is ``unicast`` (out of an interface), ``local`` (to this node), another type of route, or ``martian``: a
    source or destination that must not come in there. ``source`` is the address that the node itself would send from.
    """

    kind: str
    interface: str = ""
    gateway: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A host of a network that an interface is on."""

    interface: str
    address: str


class Routing:
    """Questions to the routing of the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = Socket(NETLINK_ROUTE)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Routing:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def route(self, destination: str, *, source: str = "", incoming: str = "", mark: int = 0) -> Route:
        """The route of a packet that comes in by `incoming`, or that the node itself sends."""
        parts = [attribute(_DST, packed(destination))]
        if source:
            parts.append(attribute(_SRC, packed(source)))
        if incoming:
            parts.append(attribute(_IIF, struct.pack("=I", socket.if_nametoindex(incoming))))
        if mark:
            parts.append(attribute(_MARK, struct.pack("=I", mark)))
        family = family_of(destination)
        head = _RTMSG.pack(family.af, family.bits, family.bits if source else 0, 0, 0, 0, 0, 0, 0)
        try:
            replies = self._socket.request(_RTM_GETROUTE, 0, head + b"".join(parts), f"find the route to {destination}")
        except NetlinkError as error:
            if error.errno in _REFUSED:
                return Route(_REFUSED[error.errno])
            raise
        return _route(replies[0].payload, family)

    def masquerade_address(self, interface: str, next_hop: str) -> str:
        """The address that IPv4 masquerading takes for packets that leave by an interface; empty if there is none.

        As the kernel's ``inet_select_addr`` has it: one in the next hop's network before the interface's first, before
        the first of any other interface.
        """
        replies = read_whole(
            lambda: self._socket.dump(_RTM_GETADDR, _IFADDRMSG.pack(socket.AF_INET, 0, 0, 0, 0), "list the addresses")
        )
        names = dict(socket.if_nameindex())
        elsewhere, own = "", ""
        for reply in replies:
            af, prefix, flags, scope, index = _IFADDRMSG.unpack_from(reply.payload)
            values = dict(attributes(reply.payload[_IFADDRMSG.size :]))
            if af != socket.AF_INET or flags & _IFA_F_SECONDARY or scope > _SCOPE_UNIVERSE or _IFA_LOCAL not in values:
                continue
            address = socket.inet_ntop(af, values[_IFA_LOCAL])
            elsewhere = elsewhere or address
            if names.get(index) == interface:
                if _same_network(bytes(values.get(_IFA_ADDRESS, values[_IFA_LOCAL])), packed(next_hop), prefix):
                    return address
                own = own or address
        return own or elsewhere

    def neighbours(self, family: Family) -> list[Neighbour]:
        """The hosts that this node has spoken to directly, or is told of."""
        names = dict(socket.if_nameindex())
        request = _NDMSG.pack(family.af, 0, 0, 0, 0)
        found = []
        for reply in read_whole(lambda: self._socket.dump(_RTM_GETNEIGH, request, "list the neighbours")):
            af, index, state, _, _ = _NDMSG.unpack_from(reply.payload)
            values = dict(attributes(reply.payload[_NDMSG.size :]))
            if af == family.af and not state & (_NUD_FAILED | _NUD_NOARP) and _NDA_DST in values and index in names:
                found.append(Neighbour(names[index], socket.inet_ntop(af, values[_NDA_DST])))
        return found

    def link_kind(self, interface: str) -> str:
        """The kind of an interface (``veth``, ``bridge``, ...); empty for hardware and where there is no such one."""
        name = attribute(_IFLA_IFNAME, interface.encode() + b"\0")
        try:
            (reply,) = self._socket.request(_RTM_GETLINK, 0, _IFINFOMSG.pack(0, 0, 0, 0, 0) + name, "read an interface")
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return ""
            raise
        values = dict(attributes(reply.payload[_IFINFOMSG.size :]))
        if _IFLA_LINKINFO not in values:
            return ""
        info = dict(attributes(values[_IFLA_LINKINFO]))
        return string(info[_INFO_KIND]) if _INFO_KIND in info else ""


def _route(payload: memoryview, family: Family) -> Route:
    kind = _RTMSG.unpack_from(payload)[7]
    values = dict(attributes(payload[_RTMSG.size :]))

    def address(number: int) -> str:
        return socket.inet_ntop(family.af, values[number]) if number in values else ""

    interface = ""
    if _OIF in values:
        try:
            interface = socket.if_indextoname(struct.unpack("=I", values[_OIF])[0])
        except OSError:
            interface = ""
    return Route(KINDS.get(kind, str(kind)), interface, address(_GATEWAY), address(_PREFSRC))


def _same_network(one: bytes, other: bytes, prefix: int) -> bool:
    shift = 8 * len(one) - prefix
    return int.from_bytes(one, "big") >> shift == int.from_bytes(other, "big") >> shift
