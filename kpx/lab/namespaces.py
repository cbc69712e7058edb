"""Network namespaces with a name, as ``ip netns`` keeps them: made, entered and removed.

A name is a file in /run/netns on which the namespace is mounted; the namespace lives as long as that mount, a process
in it or a socket of it. Everything here acts on the calling thread alone (namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os
from contextlib import AbstractContextManager
from pathlib import Path

from kpx.kernel import network_namespaces

NETNS = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_OWN_NAMESPACE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _mount(source: str, target: Path, flags: int) -> None:
    _check(_libc.mount(source.encode(), os.fsencode(target), b"none", flags, None), f"mount on {target}")


def make(name: str) -> None:
    """Make a network namespace called `name`. Raises FileExistsError if the name is taken."""
    _share_directory()
    path = NETNS / name
    path.touch(exist_ok=False)
    try:
        with entered():
            _check(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
            _mount(_OWN_NAMESPACE, path, _MS_BIND)
    except BaseException:
        path.unlink()
        raise


def _share_directory() -> None:
    """Make /run/netns a shared mount, so that a name removed here also goes from other mount namespaces."""
    NETNS.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        _mount("", NETNS, _MS_SHARED | _MS_REC)
    except OSError:  # it is no mount of its own yet
        _mount(str(NETNS), NETNS, _MS_BIND | _MS_REC)
        _mount("", NETNS, _MS_SHARED | _MS_REC)


def remove(name: str) -> None:
    """Take the name away; one that is not there, or was made by half, is no error."""
    path = NETNS / name
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


def names() -> list[str]:
    """The names in use."""
    return sorted(path.name for path in NETNS.iterdir()) if NETNS.is_dir() else []


def inode(name: str) -> int:
    """What identifies the namespace: the inode that /proc/PID/ns/net has for the processes in it."""
    return (NETNS / name).stat().st_ino


def enter(name: str) -> None:
    """Move the calling thread into a namespace; sockets that it opens from then on belong there."""
    network_namespaces.enter(NETNS / name)


def entered(name: str | None = None) -> AbstractContextManager[None]:
    """Be in the namespace `name` (if given) within the block, and back in the former one after it."""
    return network_namespaces.entered(None if name is None else NETNS / name)
