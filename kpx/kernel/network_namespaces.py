"""Network namespaces: entered by the calling thread alone, and found by an address that they hold (namespaces(7)).

Those of pods have no name that this process knows. They are found by their processes, if it may see those (in a pod:
hostPID), or by the mounts of container runtimes. Layouts: ``linux/if_link.h``, ``linux/net_namespace.h``.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from kpx.kernel.links import NETLINK_ROUTE, addresses
from kpx.kernel.netlink import Socket, attribute, attributes, text

_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/thread-self/ns/net")
_PROCESSES = Path("/proc")
_MOUNTED = (Path("/run/netns"), Path("/run/docker/netns"))

_RTM_GETLINK, _RTM_GETNSID = 18, 90
_IFLA_IFNAME, _IFLA_LINK_NETNSID = 3, 37
_NETNSA_NSID, _NETNSA_FD = 1, 3
_IFINFOMSG, _RTGENMSG = bytes(16), bytes(4)
_INT = struct.Struct("=i")

_libc = ctypes.CDLL(None, use_errno=True)


def enter(place: Path) -> None:
    """Move the calling thread into a namespace; sockets that it opens from then on belong there."""
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set(handle, str(place))
    finally:
        os.close(handle)


@contextmanager
def entered(place: Path | None = None) -> Iterator[None]:
    """Be in a namespace (if given) within the block, and back in the former one after it."""
    former = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if place is not None:
            enter(place)
        yield
    finally:
        try:
            _set(former, "the former network namespace")
        finally:
            os.close(former)


def _set(handle: int, what: str) -> None:
    if _libc.setns(handle, _CLONE_NEWNET) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"enter {what}: {os.strerror(code)}")


def of_process(pid: int) -> Path:
    """The namespace of a process."""
    return Path(f"/proc/{pid}/ns/net")


def holding(address: str) -> Path | None:
    """A namespace, other than the calling thread's, with this address on one of its interfaces; None if none is found.

    Addresses are not unique: one that is linked to the calling thread's namespace comes before others. Raises
    PermissionError where namespaces may not be entered (CAP_SYS_ADMIN).
    """
    found = None
    with _OWN.open() as own, ThreadPoolExecutor(1) as thread:
        for place in others():
            holds, linked = thread.submit(_holds, place, address, own.fileno()).result()
            if linked:
                return place
            found = found or (place if holds else None)
    return found


def _holds(place: Path, address: str, home: int) -> tuple[bool, bool]:
    """Whether a namespace holds an address, and whether it does so on a link to the namespace `home` (a descriptor)."""
    try:
        enter(place)
    except PermissionError:
        raise
    except OSError:  # its last process has ended, or a name has no namespace any more
        return False, False
    interface = next((one.interface for one in addresses() if one.address == address), None)
    if interface is None:
        return False, False
    with Socket(NETLINK_ROUTE) as netlink:
        peer = _number(netlink, _RTM_GETLINK, _IFINFOMSG + text(_IFLA_IFNAME, interface), 16, _IFLA_LINK_NETNSID)
        own = _number(netlink, _RTM_GETNSID, _RTGENMSG + attribute(_NETNSA_FD, _INT.pack(home)), 4, _NETNSA_NSID)
    return True, peer is not None and peer == own


def _number(netlink: Socket, kind: int, payload: bytes, skipped: int, wanted: int) -> int | None:
    """A number in the answer to a request; None where the kernel has none."""
    (reply,) = netlink.request(kind, 0, payload, "find out what is linked to a network namespace")
    found = dict(attributes(reply.payload[skipped:])).get(wanted)
    return None if found is None else int(_INT.unpack(found)[0])


def others() -> Iterator[Path]:
    """The namespaces that can be seen but the calling thread's, each once."""
    known = {_OWN.stat().st_ino}
    for path in _paths():
        with suppress(OSError):
            inode = path.stat().st_ino
            if inode not in known:
                known.add(inode)
                yield path


def _paths() -> Iterator[Path]:
    for folder in _MOUNTED:
        if folder.is_dir():
            yield from sorted(folder.iterdir())
    for process in _PROCESSES.iterdir():
        if process.name.isdigit():
            yield of_process(int(process.name))
