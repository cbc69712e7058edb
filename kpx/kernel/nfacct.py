"""Netfilter accounting objects: named packet counters that rules of ``-m nfacct`` add to.

Layouts: ``linux/netfilter/nfnetlink_acct.h``. A kernel may lack them (CONFIG_NETFILTER_NETLINK_ACCT).
"""

from __future__ import annotations

import errno
import socket
import struct

from kpx.kernel.netlink import NETLINK_NETFILTER, NLM_F_CREATE, NetlinkError, Socket, attributes, text

NAME_MAX = 31

_ACCT = 7 << 8
_ACCT_NEW = _ACCT | 0
_ACCT_GET = _ACCT | 1
_NFACCT_NAME = 1
_NFACCT_PKTS = 2
_HEADER = struct.pack(">BBH", socket.AF_UNSPEC, 0, 0)


class AccountingUnsupported(Exception):
    """This kernel, or this process without CAP_NET_ADMIN, has no accounting objects."""


def ensure(name: str) -> None:
    """Make the object exist; one that does keeps its count."""
    if len(name.encode()) > NAME_MAX:
        raise ValueError(f"{name!r}: the name of an accounting object has at most {NAME_MAX} bytes")
    try:
        with Socket(NETLINK_NETFILTER) as netlink:
            netlink.request(_ACCT_NEW, NLM_F_CREATE, _HEADER + text(_NFACCT_NAME, name), f"create nfacct object {name}")
    except NetlinkError as error:
        if error.errno != errno.EBUSY:  # EBUSY: it exists
            raise _typed(error) from error


def packets(name: str) -> int | None:
    """The packets that the object has counted, or None if there is no such object."""
    try:
        with Socket(NETLINK_NETFILTER) as netlink:
            replies = netlink.request(_ACCT_GET, 0, _HEADER + text(_NFACCT_NAME, name), f"read nfacct object {name}")
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return None
        raise _typed(error) from error
    values = {kind: value for reply in replies for kind, value in attributes(reply.payload[len(_HEADER) :])}
    return int.from_bytes(values[_NFACCT_PKTS], "big")


def _typed(error: NetlinkError) -> Exception:
    """EINVAL is how nfnetlink answers for a subsystem that the kernel does not have."""
    unsupported = error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
    return AccountingUnsupported(str(error)) if unsupported else error
