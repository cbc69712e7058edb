"""Reads what the kernel holds, in whichever mode."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from kpx.tools import in_iptables, in_ipvs, in_nftables, in_stock_nftables
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Held

Reader = Callable[[], Held | None]

Readers = Mapping[str, tuple[Reader, ...]]

_READERS: Readers = {
    "nftables": (in_nftables.read, in_stock_nftables.read),
    "ipvs": (in_ipvs.read,),
    "iptables": (in_iptables.read,),
}


def read(mode: str = "") -> Held | None:
    """What the kernel holds in a mode, or in whichever it has rules of where `mode` is empty; None for nothing.

    Raises `ToolError` where that cannot be read.
    """
    try:
        return first(_READERS, mode)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise ToolError("reading the kernel's rules needs root (CAP_NET_ADMIN): run it with sudo") from error
        raise ToolError(f"the kernel's rules cannot be read: {error}") from error


def first(readers: Readers, mode: str) -> Held | None:
    """What the first reader of a mode, or of any where that is not known, finds."""
    every = tuple(reader for some in readers.values() for reader in some)
    return next((held for reader in readers.get(mode, every) if (held := reader())), None)
