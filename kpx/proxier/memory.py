"""The memory of a process that starts with a large list and then runs for months."""

from __future__ import annotations

import ctypes

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
