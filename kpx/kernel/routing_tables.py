"""The routing tables as they are: routes, rules of policy routing, interfaces; and the way of a packet through them.

Layouts: ``linux/rtnetlink.h``, ``linux/fib_rules.h``. What the kernel itself decides, `kpx.kernel.routes` asks it; this
is for where it cannot be asked.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from kpx.kernel.links import NETLINK_ROUTE, InterfaceAddress
from kpx.kernel.netlink import Message, Socket, attributes, read_whole, string
from kpx.kernel.routes import KINDS, Route
from kpx.net import Family, contains, family_of

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE, _RTM_GETRULE = 18, 22, 26, 34
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, interface
_DST, _SRC, _IIF, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _MULTIPATH, _TABLE = 1, 2, 3, 4, 5, 6, 7, 9, 15
_IFLA_IFNAME, _IFLA_LINKINFO, _INFO_KIND = 3, 18, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_SECONDARY, _IFA_F_DEPRECATED, _SCOPE_UNIVERSE = 1, 2, 0x1, 0x20, 0
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_MARK, _FRA_TABLE, _FRA_MASK, _FRA_OIFNAME = 3, 6, 10, 15, 16, 17
_TO_TABLE, _BLACKHOLE, _UNREACHABLE, _PROHIBIT = 1, 6, 7, 8
_INVERT, _CLONED, _DEAD = 0x2, 0x200, 0x1
_DEFAULT = {Family.IPV4: "0.0.0.0/0", Family.IPV6: "::/0"}


class TableRoute(NamedTuple):
    """A route of a table; ``source`` is the one that it prefers, empty for none."""

    table: int
    destination: str
    kind: str
    interface: str = ""
    gateway: str = ""
    source: str = ""
    metric: int = 0

    @property
    def length(self) -> int:
        return int(self.destination.rpartition("/")[2])

    @property
    def family(self) -> Family:
        return family_of(self.destination.partition("/")[0])


class RoutingRule(NamedTuple):
    """A rule of policy routing: what it selects, and the table it names, or 0 and what it does (``kind``)."""

    family: Family
    priority: int
    table: int
    kind: str = ""
    source: str = ""
    destination: str = ""
    incoming: str = ""
    outgoing: str = ""
    mark: int = 0
    mask: int = 0
    inverted: bool = False


class Link(NamedTuple):
    """An interface: its number, and its kind (``veth``, ``bridge``; empty for hardware)."""

    name: str
    number: int
    kind: str


def read_routes() -> list[TableRoute]:
    """The routes of all tables, the local one too."""
    names = dict(socket.if_nameindex())
    return [route for one in _dump(_RTM_GETROUTE, "list the routes") if (route := _route(one, names))]


def read_rules() -> list[RoutingRule]:
    return [rule for one in _dump(_RTM_GETRULE, "list the rules of routing") if (rule := _rule(one))]


def read_links() -> list[Link]:
    with Socket(NETLINK_ROUTE) as netlink:
        found = read_whole(lambda: netlink.dump(_RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0), "list the interfaces"))
    return [_link(one) for one in found]


def read_speaking() -> list[InterfaceAddress]:
    """The addresses that a source is chosen from: not secondary and deprecated ones, nor those of IPv4 for a link."""
    names, found = dict(socket.if_nameindex()), []
    for one in _dump(_RTM_GETADDR, "list the addresses"):
        af, prefix, flags, scope, index = _IFADDRMSG.unpack_from(one.payload)
        values = dict(attributes(one.payload[_IFADDRMSG.size :]))
        family = next((each for each in Family if each.af == af), None)
        value = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
        unfit = flags & (_IFA_F_SECONDARY | _IFA_F_DEPRECATED) or (family is Family.IPV4 and scope > _SCOPE_UNIVERSE)
        if family and value is not None and index in names and not unfit and names[index] != "lo":
            found.append(InterfaceAddress(names[index], socket.inet_ntop(af, value), prefix, family))
    return found


def _dump(kind: int, what: str) -> Iterator[Message]:
    with Socket(NETLINK_ROUTE) as netlink:
        for family in Family:
            head = _RTMSG.pack(family.af, 0, 0, 0, 0, 0, 0, 0, 0)
            yield from read_whole(lambda head=head: netlink.dump(kind, head, what))  # type: ignore[misc]


def _link(one: Message) -> Link:
    values = dict(attributes(one.payload[_IFINFOMSG.size :]))
    info = dict(attributes(values[_IFLA_LINKINFO])) if _IFLA_LINKINFO in values else {}
    kind = string(info[_INFO_KIND]) if _INFO_KIND in info else ""
    return Link(string(values[_IFLA_IFNAME]), _IFINFOMSG.unpack_from(one.payload)[2], kind)


def _route(one: Message, names: dict[int, str]) -> TableRoute | None:
    af, length, _, _, table, _, _, kind, flags = _RTMSG.unpack_from(one.payload)
    family = next((each for each in Family if each.af == af), None)
    if family is None or flags & (_CLONED | _DEAD):
        return None
    values = dict(attributes(one.payload[_RTMSG.size :]))
    found = dict(values)
    if _MULTIPATH in values:  # one way stands for all
        hop = values[_MULTIPATH]
        size, _, _, index = _NEXTHOP.unpack_from(hop)
        found |= dict(attributes(hop[_NEXTHOP.size : size])) | {_OIF: memoryview(struct.pack("=i", index))}

    def address(number: int) -> str:
        return socket.inet_ntop(af, found[number]) if number in found else ""

    return TableRoute(
        table=_number(found, _TABLE) or table,
        destination=f"{address(_DST)}/{length}" if _DST in found else _DEFAULT[family],
        kind=KINDS.get(kind, str(kind)),
        interface=names.get(_number(found, _OIF), ""),
        gateway=address(_GATEWAY),
        source=address(_PREFSRC),
        metric=_number(found, _PRIORITY),
    )


def _rule(one: Message) -> RoutingRule | None:
    af, to_length, from_length, _, table, _, _, action, flags = _RTMSG.unpack_from(one.payload)
    family = next((each for each in Family if each.af == af), None)
    values = dict(attributes(one.payload[_RTMSG.size :]))
    if family is None:
        return None

    def network(number: int, length: int) -> str:
        return f"{socket.inet_ntop(af, values[number])}/{length}" if number in values else ""

    refuses = action in (_BLACKHOLE, _UNREACHABLE, _PROHIBIT)
    return RoutingRule(
        family,
        priority=_number(values, _FRA_PRIORITY),
        table=(_number(values, _FRA_TABLE) or table) if action == _TO_TABLE else 0,
        kind=KINDS[action] if refuses else "",
        source=network(_SRC, from_length),
        destination=network(_DST, to_length),
        incoming=string(values[_FRA_IIFNAME]) if _FRA_IIFNAME in values else "",
        outgoing=string(values[_FRA_OIFNAME]) if _FRA_OIFNAME in values else "",
        mark=_number(values, _FRA_MARK),
        mask=_number(values, _FRA_MASK),
        inverted=bool(flags & _INVERT),
    )


def _number(values: dict[int, memoryview], number: int) -> int:
    return int(struct.unpack("=I", values[number])[0]) if number in values else 0


class Tables:
    """Looks up routes by rule and by longest prefix. Pure."""

    def __init__(self, routes: list[TableRoute], rules: list[RoutingRule]) -> None:
        self._rules = sorted(rules, key=lambda one: one.priority)
        self._routes: dict[tuple[Family, int], list[TableRoute]] = {}
        for one in sorted(routes, key=lambda one: (-one.length, one.metric)):
            self._routes.setdefault((one.family, one.table), []).append(one)

    def route(self, destination: str, source: str = "", incoming: str = "", mark: int = 0) -> Route:
        """The route of a packet; without a ``source`` the preferred one of its route, if that names one."""
        family = family_of(destination)
        for rule in self._rules:
            if rule.family is not family or _selects(rule, destination, source, incoming, mark) is rule.inverted:
                continue
            if rule.kind:
                return Route(rule.kind)
            for one in self._routes.get((family, rule.table), ()):
                if contains(one.destination, destination):
                    if one.kind == "throw":  # on with the next rule
                        break
                    return Route(one.kind, one.interface, one.gateway, one.source)
        return Route("unreachable")


def _selects(rule: RoutingRule, destination: str, source: str, incoming: str, mark: int) -> bool:
    return (
        (not rule.destination or contains(rule.destination, destination))
        and (not rule.source or (bool(source) and contains(rule.source, source)))
        and rule.incoming in ("", incoming or "lo")
        and not rule.outgoing
        and (rule.mark == mark & rule.mask)
    )
