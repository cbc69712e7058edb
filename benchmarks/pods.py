"""``python -m benchmarks.pods``: answers every connection with the address that it came to, until its input ends.

One listener serves all pods: their network is local to its namespace. One line of output says that it listens.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress

from benchmarks.objects import TARGET_PORT

_BACKLOG = 4096


def main() -> None:
    listener = socket.create_server(("", TARGET_PORT), backlog=_BACKLOG)
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def _serve(listener: socket.socket) -> None:
    while True:
        # A client that only measures the way here is gone again by now.
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.send(connection.getsockname()[0].encode())


if __name__ == "__main__":
    main()
