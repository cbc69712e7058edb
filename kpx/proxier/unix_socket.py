"""A unix socket for root alone, and the one before it that a dead process has left."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

PATH = Path("/run/kpx/kpx.sock")
# Names another path, for several daemons on one machine.
VARIABLE = "KPX_SOCKET"

_MODE = 0o600
_FOLDER_MODE = 0o700
_CREDENTIALS = struct.Struct("=iii")  # process, user, group


def tool_socket() -> Path:
    """Where the daemon answers the tools."""
    return Path(os.environ.get(VARIABLE) or PATH)


class SocketTaken(OSError):
    """Somebody lives at the path of a socket; the text is a sentence that says who."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EADDRINUSE, sentence)

    def __str__(self) -> str:
        return str(self.strerror)


def listen(path: Path, backlog: int) -> socket.socket:
    """A listening socket at a path, its folder made if there is none. A socket that nobody serves is replaced.

    Raises `SocketTaken` where somebody serves it or where something else is in its place, and `OSError`.
    """
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    _make_way(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The file takes its mode from the socket: there is no moment in which others may connect.
        os.fchmod(listening.fileno(), _MODE)
        listening.bind(str(path))
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening


def _make_way(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketTaken(f"{path} is there and is no socket: remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.setblocking(False)
        try:
            visitor.connect(str(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                path.unlink()
        except FileNotFoundError:
            pass
        except BlockingIOError:  # its queue is full, but there is one
            raise SocketTaken(f"another daemon serves {path}") from None
        else:
            process, _, _ = _CREDENTIALS.unpack(
                visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            raise SocketTaken(f"another daemon, process {process}, serves {path}")
