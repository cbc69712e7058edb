"""Another service proxy that is alive on this node: two that write the same rules undo each other's work."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

_NAMES = ("kube-proxy", "kpx")
_POLL_SECONDS = 0.5


def rivals() -> list[str]:
    """The service proxies, as ``name[pid]``, that run in this network namespace besides this process.

    Only processes that this one can see: those of the node need the host's PID namespace.
    """
    here = _network(os.getpid())
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        f"{process.info['name']}[{process.pid}]"
        for process in psutil.process_iter(["name"])
        if process.pid not in mine and _is_proxy(process) and _network(process.pid) == here
    ]


def _is_proxy(process: psutil.Process) -> bool:
    """A process of the name kube-proxy, or a `kpx daemon`; not the other commands of kpx."""
    if process.info["name"] not in _NAMES and "python" not in (process.info["name"] or ""):
        return False
    return _runs_proxy(_command(process.pid))


def _runs_proxy(command: list[str]) -> bool:
    words = [Path(word).name for word in command]
    if "kube-proxy" in words[:2]:
        return True
    return any(words[at : at + 2] == ["kpx", "daemon"] for at in range(len(words)))


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _network(pid: int) -> str:
    """The identity of a process's network namespace; empty if it cannot be seen."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def wait_until_alone(stop: threading.Event, find: Callable[[], list[str]] = rivals) -> None:
    """Wait until no other service proxy is alive here, saying so once for each that is; returns early if stopped."""
    told: set[str] = set()
    for found in _polls(stop, find):
        for one in sorted(set(found) - told):
            logger.warning(
                "%s is alive on this node: waiting for it to end before anything is programmed (--take-over goes on)",
                one,
            )
        told |= set(found)
        if not found:
            if told:
                logger.info("no other service proxy is alive any more")
            return


def _polls(stop: threading.Event, find: Callable[[], list[str]]) -> Iterator[list[str]]:
    yield find()
    while not stop.wait(_POLL_SECONDS):
        yield find()
