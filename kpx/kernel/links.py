"""The addresses of this node's interfaces, over rtnetlink, and word of their changes.

Layouts: ``linux/if_addr.h``, ``linux/rtnetlink.h``.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from kpx.kernel.netlink import Message, Overrun, Socket, attributes, messages, read_whole
from kpx.net import Family

NETLINK_ROUTE = 0

_RTM_NEWADDR = 20
_RTM_GETADDR = 22
_RTNLGRP_IPV4_IFADDR = 5
_RTNLGRP_IPV6_IFADDR = 9
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface index
_FAMILIES = {family.af: family for family in Family}


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of a local interface, with the length of its network's prefix."""

    interface: str
    address: str
    prefix: int
    family: Family


def addresses(family: Family | None = None) -> list[InterfaceAddress]:
    """All addresses of all interfaces, up or down, in the network namespace of the calling thread."""
    request = _IFADDRMSG.pack(family.af if family else socket.AF_UNSPEC, 0, 0, 0, 0)
    names = dict(socket.if_nameindex())
    with Socket(NETLINK_ROUTE) as netlink:
        replies = read_whole(lambda: netlink.dump(_RTM_GETADDR, request, "list the addresses of the interfaces"))
    return [found for reply in replies if reply.type == _RTM_NEWADDR and (found := _decode(reply, names))]


def _decode(reply: Message, names: dict[int, str]) -> InterfaceAddress | None:
    """The address in a message; None for other families, and for an interface that is already gone."""
    af, prefix, _, _, index = _IFADDRMSG.unpack_from(reply.payload)
    values = dict(attributes(reply.payload[_IFADDRMSG.size :]))
    # On a point-to-point link IFA_ADDRESS is the peer's address and IFA_LOCAL ours; IPv6 has only IFA_ADDRESS.
    value = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
    if af not in _FAMILIES or index not in names or value is None:
        return None
    return InterfaceAddress(names[index], socket.inet_ntop(af, value), prefix, _FAMILIES[af])


def address_changes(stop: threading.Event, poll: float = 1.0, ignored: str = "") -> Iterator[None]:
    """Yield after addresses were added or removed, once for each burst, until `stop` is set (seen within `poll` s).

    No change after this call is missed, however late the first is asked for. Those of the interface `ignored` are left
    out.
    """
    netlink = Socket(NETLINK_ROUTE, groups=(_RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV6_IFADDR))
    return _changes(netlink, stop, poll, ignored)


def _changes(netlink: Socket, stop: threading.Event, poll: float, ignored: str) -> Iterator[None]:
    with netlink:
        while not stop.is_set():
            try:
                changed = _concern(_burst(netlink, poll), ignored)
            except Overrun:
                changed = True
            if changed:
                yield


def _burst(netlink: Socket, poll: float) -> set[int]:
    """Wait for announcements and take all that have come: the indices of the interfaces that they are of."""
    found: set[int] = set()
    data = netlink.receive(poll)
    while data is not None:
        found |= {_IFADDRMSG.unpack_from(one.payload)[4] for one in messages(data)}
        data = netlink.receive(0)
    return found


def _concern(indices: set[int], ignored: str) -> bool:
    """Whether another interface than the one that is ignored is among them, or one that is gone."""
    names = dict(socket.if_nameindex()) if indices and ignored else {}
    return any(names.get(index) != ignored for index in indices)
