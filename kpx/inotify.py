"""Changes of a file or in a directory, as the kernel reports them: inotify(7), through libc."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from pathlib import Path
from types import TracebackType

# From linux/inotify.h.
MODIFY = 0x2
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
MOVE_SELF = 0x800
IGNORED = 0x8000
OVERFLOW = 0x4000

_EVENT = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, length of the name
_BUFFER = 64 * 1024


class Inotify:
    """A watch on one file or directory.

    `mask` says which events are wanted; the kernel adds IGNORED (the watch has ended) and OVERFLOW (some were lost).
    """

    def __init__(self, path: Path, mask: int) -> None:
        """Begin to watch; raises OSError."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if libc.inotify_add_watch(self._fd, os.fsencode(path), mask) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), str(path))

    def __enter__(self) -> Inotify:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read(self, timeout: float) -> list[tuple[int, str]]:
        """The (mask, name) of all events that are there, after waiting up to `timeout` seconds for the first.

        The name is the entry's in the directory, and empty where the event is that of the watched path itself.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return _parse(os.read(self._fd, _BUFFER)) if poll.poll(timeout * 1000) else []


def _parse(data: bytes) -> list[tuple[int, str]]:
    events = []
    offset = 0
    while offset < len(data):
        _, mask, _, length = _EVENT.unpack_from(data, offset)
        offset += _EVENT.size
        events.append((mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))))
        offset += length
    return events
