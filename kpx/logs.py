"""Log lines in klog's two forms, text and JSON, with kube-proxy's ``-v`` levels.

Errors, warnings and notices are always written; `v` writes a line of a verbosity level. Lines go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import TextIO

_LETTERS = {logging.DEBUG: "I", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}
_verbosity = 0


def v(level: int, logger: logging.Logger, line: str, *arguments: object) -> None:
    """Write an informational line if the verbosity (``-v``) is at least `level`."""
    if _verbosity >= level:
        logger.info(line, *arguments, extra={"v": level}, stacklevel=2)


class TextFormatter(logging.Formatter):
    """klog's text form: ``I1122 18:58:12.578922    4711 loop.py:42] message``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micros = int(record.created % 1 * 1_000_000)
        head = f"{_LETTERS.get(record.levelno, 'I')}{moment}.{micros:06d} {os.getpid():7d}"
        line = f"{head} {record.filename}:{record.lineno}] {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One JSON object a line, as Kubernetes components write it; ``ts`` is in milliseconds since 1970."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": round(record.created * 1000, 3),
            "caller": f"{record.filename}:{record.lineno}",
            "msg": record.getMessage(),
        }
        if record.levelno <= logging.INFO:
            entry["v"] = getattr(record, "v", 0)
        elif record.levelno == logging.WARNING:
            entry["level"] = "warning"
        if record.exc_info:
            entry["err"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_verbosity(verbosity: int) -> None:
    """Write lines up to this level from now on."""
    global _verbosity
    _verbosity = verbosity


def configure(*, verbosity: int = 0, form: str = "text", stream: TextIO | None = None) -> None:
    """Send all log lines to `stream` (standard error) in one form, ``text`` or ``json``; may be called again."""
    set_verbosity(verbosity)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    threading.excepthook = lambda failure: root.critical(
        "thread %s ended by an error",
        failure.thread and failure.thread.name,
        exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback) if failure.exc_value else None,
    )
