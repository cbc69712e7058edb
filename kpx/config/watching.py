"""Notice that the configuration file was written, with inotify (``linux/inotify.h``)."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

UPDATED = "content of the proxy server's configuration file was updated"
"""The error with which the process ends when its file changes, for a supervisor to start it again."""

_IN_MODIFY = 0x002
_IN_MOVE_SELF = 0x800
_IN_CLOEXEC = os.O_CLOEXEC
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_POLL_MILLISECONDS = 500


def watch_file(path: Path, on_change: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """Call `on_change` once, from a thread of its own, when the file is written or renamed.

    As in kube-proxy, nothing else counts: not a change of mode, not removal, and so not the swapped symlink of a
    ConfigMap volume, which leaves the watched file as it was. OSError if the file cannot be watched. The thread ends
    after the call, or soon after `stop` is set.
    """
    watch = _watch(path)

    def follow() -> None:
        try:
            if _changed(watch, stop):
                on_change()
        finally:
            os.close(watch)

    thread = threading.Thread(target=follow, name="configuration-watch")
    thread.start()
    return thread


def _watch(path: Path) -> int:
    """An inotify file descriptor with a watch on the file."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch: int = libc.inotify_init1(_IN_CLOEXEC)
    if watch < 0:
        raise _error(path)
    if libc.inotify_add_watch(watch, os.fsencode(path), ctypes.c_uint32(_IN_MODIFY | _IN_MOVE_SELF)) < 0:
        error = _error(path)
        os.close(watch)
        raise error
    return watch


def _error(path: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"the file cannot be watched: {os.strerror(code)}", str(path))


def _changed(watch: int, stop: threading.Event) -> bool:
    """Wait for an event that counts; False if `stop` came first."""
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    while not stop.is_set():
        if poller.poll(_POLL_MILLISECONDS) and any(
            mask & (_IN_MODIFY | _IN_MOVE_SELF) for mask in _masks(os.read(watch, 4096))
        ):
            return True
    return False


def _masks(data: bytes) -> Iterator[int]:
    offset = 0
    while offset < len(data):
        _, mask, _, length = _EVENT.unpack_from(data, offset)
        yield mask
        offset += _EVENT.size + length
