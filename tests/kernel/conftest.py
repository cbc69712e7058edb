"""Every test here runs in a network namespace of its own, which is gone when the test ends, however it ends."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())} (these tests need root)")


@pytest.fixture(autouse=True)
def network_namespace() -> Iterator[None]:
    """Move the test's thread into a new network namespace with loopback up, and back."""
    # Without a name or a process in it, the kernel removes the namespace when the thread leaves it.
    with Path("/proc/thread-self/ns/net").open() as home:
        _check(_LIBC.unshare(_CLONE_NEWNET), "unshare")
        try:
            _loopback_up()
            yield
        finally:
            _check(_LIBC.setns(home.fileno(), _CLONE_NEWNET), "setns")


def _loopback_up() -> None:
    # A process of its own for this would double the time that many tests take in a guest.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
