"""Reads what the kernel holds, in whichever mode."""

from __future__ import annotations

import errno
from collections.abc import Callable

from kpx.tools import in_iptables, in_ipvs, in_nftables, in_stock_nftables
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Held

Reader = Callable[[], Held | None]

_READERS: dict[str, tuple[Reader, ...]] = {
    "nftables": (in_nftables.read, in_stock_nftables.read),
    "ipvs": (in_ipvs.read,),
    "iptables": (in_iptables.read,),
}


def read(mode: str = "") -> Held | None:
    """What the kernel holds in a mode, or in whichever it has rules of where `mode` is empty; None for nothing.

    Raises `ToolError` where that cannot be read.
    """
    every = tuple(reader for readers in _READERS.values() for reader in readers)
    try:
        return next((held for reader in _READERS.get(mode, every) if (held := reader())), None)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise ToolError("reading the kernel's rules needs root (CAP_NET_ADMIN): run it with sudo") from error
        raise ToolError(f"the kernel's rules cannot be read: {error}") from error
