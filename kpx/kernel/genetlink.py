"""Generic netlink: the numbers that the kernel gives to its families.

Layouts: ``linux/genetlink.h``.
"""

from __future__ import annotations

import struct

from kpx.kernel.netlink import Socket, attributes, text

HEADER = struct.Struct("=BBH")  # command, version, reserved

_CONTROL = 16
_GET_FAMILY = 3
_FAMILY_ID = 1
_FAMILY_NAME = 2


def family_number(netlink: Socket, name: str) -> int:
    """The message type of a family's requests; the kernel loads the module that has it, if there is one.

    Raises `NetlinkError` with ENOENT for a family that the kernel does not have.
    """
    request = HEADER.pack(_GET_FAMILY, 1, 0) + text(_FAMILY_NAME, name)
    (reply,) = netlink.request(_CONTROL, 0, request, f"find the netlink family {name}")
    values = dict(attributes(reply.payload[HEADER.size :]))
    (number,) = struct.unpack("=H", values[_FAMILY_ID])
    return int(number)
