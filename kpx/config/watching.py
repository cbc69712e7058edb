"""Notice that the configuration file was written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from kpx.inotify import MODIFY, MOVE_SELF, Inotify

UPDATED = "content of the proxy server's configuration file was updated"
"""The error with which the process ends when its file changes, for a supervisor to start it again."""

_WRITTEN = MODIFY | MOVE_SELF
_POLL_SECONDS = 0.5


def watch_file(path: Path, on_change: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """Call `on_change` once, from a thread of its own, when the file is written or renamed.

    As in kube-proxy, nothing else counts: not a change of mode, not removal, and so not the swapped symlink of a
    ConfigMap volume, which leaves the watched file as it was. OSError if the file cannot be watched. The thread ends
    after the call, or soon after `stop` is set.
    """
    try:
        watch = Inotify(path, _WRITTEN)
    except OSError as error:
        code = error.errno or 0
        raise OSError(code, f"the file cannot be watched: {os.strerror(code)}", str(path)) from error

    def follow() -> None:
        with watch:
            while not stop.is_set():
                if any(mask & _WRITTEN for mask, _ in watch.read(_POLL_SECONDS)):
                    on_change()
                    return

    thread = threading.Thread(target=follow, name="configuration-watch")
    thread.start()
    return thread
