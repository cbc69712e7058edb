"""The memory of a process that starts with a large list and then runs for months."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable

from kpx.net import Family
from kpx.proxier.observer import Observer, Sync

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_BYTES = 128 << 10


def return_freed_memory() -> None:
    """Have the C library give freed memory back to the kernel.

    glibc raises these thresholds by itself as large blocks are freed (mallopt(3)); after the first list of 10,000
    Services that keeps 40 MB. Setting them fixes them. Other C libraries have no such call, and need none.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _BYTES)


def collect_no_garbage() -> None:
    """Until `CollectGarbage` has it collected again: during a start hardly anything is freed, and each of the
    collector's rounds would go through all that is there by then."""
    gc.disable()


class CollectGarbage(Observer):
    """Has garbage collected once every family has been synced, but not looked for in what is there by then."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._awaited = set(families)

    def synced(self, sync: Sync) -> None:
        if sync.family in self._awaited:
            self._awaited.remove(sync.family)
            if not self._awaited:
                gc.freeze()
                gc.enable()
