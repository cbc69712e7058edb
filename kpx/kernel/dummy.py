"""A dummy device: an interface that leads nowhere, to hold addresses that this host answers for.

Layouts: ``linux/if_link.h``, ``linux/if_addr.h``, ``linux/rtnetlink.h``.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable

from kpx.kernel import links
from kpx.kernel.links import NETLINK_ROUTE, InterfaceAddress
from kpx.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    NetlinkError,
    Overrun,
    Refusal,
    Request,
    Socket,
    attribute,
    attributes,
    messages,
    nested,
    string,
    text,
)
from kpx.net import Family, family_of, is_link_local, packed

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR = 16, 17, 18, 20, 21
_GROUP_LINK = 1
_GROUP_ADDRESSES = {Family.IPV4: 5, Family.IPV6: 9}  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_KIND = "dummy"
# What the kernel answers where nothing was to be done.
_AS_WISHED = {_NEWADDR: errno.EEXIST, _DELADDR: errno.EADDRNOTAVAIL}
# Changes that are made before their announcements are read: so many fit the buffer.
_AT_A_TIME = 500
_TOLD = 3


class NotADummy(Exception):
    """There is an interface of that name, and it is of another kind."""


class Dummy:
    """A dummy device, which may not exist yet, and its addresses of one family.

    In the network namespace of the thread that makes this object. What others do to it is told apart by what was asked
    for here: the kernel does not say who changed an IPv6 address.
    """

    def __init__(self, name: str, family: Family) -> None:
        self.name = name
        self.family = family
        self._socket = Socket(NETLINK_ROUTE)
        self._news = Socket(NETLINK_ROUTE, groups=(_GROUP_LINK, _GROUP_ADDRESSES[family]))
        self._index = 0
        # Addresses that were added here: the kernel announces those of IPv6 twice, the second time somewhat later.
        self._added: set[str] = set()
        self._foreign: dict[str, None] = {}

    def close(self) -> None:
        self._socket.close()
        self._news.close()

    def __enter__(self) -> Dummy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def exists(self) -> bool:
        """Whether it is there. Raises `NotADummy`."""
        request = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, self.name)
        try:
            (reply,) = self._socket.request(_GETLINK, 0, request, f"find the interface {self.name}")
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            self._index = 0
            return False
        self._index = _IFINFOMSG.unpack_from(reply.payload)[2]
        values = dict(attributes(reply.payload[_IFINFOMSG.size :]))
        kind = dict(attributes(values.get(_IFLA_LINKINFO, memoryview(b""))))
        if _IFLA_INFO_KIND not in kind or string(kind[_IFLA_INFO_KIND]) != _KIND:
            raise NotADummy(f"the interface {self.name} is no dummy device: rename or delete it")
        return True

    def create(self) -> bool:
        """Make it; False if it was there. It is left down: its addresses are this host's all the same."""
        if self.exists():
            return False
        request = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, self.name)
        request += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, _KIND))
        try:
            self._socket.request(
                _NEWLINK, NLM_F_CREATE | NLM_F_EXCL, request, f"make the dummy device {self.name} (module dummy)"
            )
        except NetlinkError as error:
            if error.errno != errno.EEXIST:
                raise
            return not self.exists()
        return self.exists()

    def delete(self) -> bool:
        """Remove it with its addresses; False if it was not there. Raises `NotADummy`."""
        if not self.exists():
            return False
        request = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + text(_IFLA_IFNAME, self.name)
        try:
            self._socket.request(_DELLINK, 0, request, f"remove the dummy device {self.name}")
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            return False  # somebody was faster
        return True

    def addresses(self) -> set[str]:
        """The addresses on it, without those that the kernel gave it by itself (link-local)."""
        return {one.address for one in self._held(self.family)}

    def used(self) -> bool:
        """Whether it has any address, of either family."""
        return bool(self._held())

    def _held(self, family: Family | None = None) -> list[InterfaceAddress]:
        return [one for one in links.addresses(family) if one.interface == self.name and not is_link_local(one.address)]

    def change(self, added: Iterable[str], removed: Iterable[str]) -> dict[str, Refusal]:
        """Add and remove single addresses; return those that the kernel refuses.

        One that is there already, or gone already, is none of them.
        """
        asked = [(_NEWADDR, address) for address in added] + [(_DELADDR, address) for address in removed]
        refused: dict[str, Refusal] = {}
        for start in range(0, len(asked), _AT_A_TIME):
            part = asked[start : start + _AT_A_TIME]
            self._note()
            errors = self._socket.pipeline([_address_request(*one, self._index) for one in part])
            made = [one for at, one in enumerate(part) if at not in errors]
            self._added.update(address for kind, address in made if kind == _NEWADDR)
            self._note({address for kind, address in made if kind == _DELADDR})
            refused |= {part[at][1]: error for at, error in errors.items() if error.code != _AS_WISHED[part[at][0]]}
        return refused

    def changed_by_others(self) -> str | None:
        """What others did to it or its addresses since the last call, in words, or None."""
        self._note()
        told, self._foreign = [*self._foreign][:_TOLD], {}
        return "; ".join(told) or None

    def _note(self, removed: Collection[str] = ()) -> None:
        """Read the news, and keep what others did. Addresses in `removed` were just removed here."""
        try:
            while (data := self._news.receive(0)) is not None:
                for kind, address in filter(None, map(self._change_in, messages(data))):
                    if address not in (self._added if kind == _NEWADDR else removed):
                        self._foreign[_described(self.name, kind, address)] = None
                    if kind == _DELADDR:
                        self._added.discard(address)
        except Overrun:
            self._foreign["so much that announcements were lost"] = None

    def _change_in(self, news: Message) -> tuple[int, str] | None:
        """What the news are, if they are about this device."""
        if news.type == _DELLINK:
            return (_DELLINK, "") if _IFINFOMSG.unpack_from(news.payload)[2] == self._index else None
        if news.type not in (_NEWADDR, _DELADDR):
            return None
        af, _, _, _, index = _IFADDRMSG.unpack_from(news.payload)
        if index != self._index:
            return None
        values = dict(attributes(news.payload[_IFADDRMSG.size :]))
        address = socket.inet_ntop(af, values[_IFA_ADDRESS])
        return None if is_link_local(address) else (news.type, address)


def _described(name: str, kind: int, address: str) -> str:
    if kind == _DELLINK:
        return f"interface {name} was deleted"
    return f"interface {name} {'got' if kind == _NEWADDR else 'lost'} the address {address}"


def _address_request(kind: int, address: str, index: int) -> Request:
    family = family_of(address)
    payload = _IFADDRMSG.pack(family.af, family.bits, 0, 0, index)
    payload += attribute(_IFA_LOCAL, packed(address)) + attribute(_IFA_ADDRESS, packed(address))
    return Request(kind, NLM_F_CREATE | NLM_F_EXCL if kind == _NEWADDR else 0, payload)
