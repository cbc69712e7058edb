"""The service proxies of this network namespace, and how they are started anew."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from kpx.doctor.facts import Holder, ProxyProcess
from kpx.doctor.finding import Command
from kpx.proxier.rival import rivals

# Names the command that starts this node's proxy anew, where that is neither a unit nor a pod.
RESTART = "KPX_RESTART"
_UNITS = ("kpx", "kube-proxy")
_UNIT_FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
_ENABLED = Path("/etc/systemd/system")
_STOPPED = ("T", "t")
_POD = ("kubectl", "delete", "pod", "--namespace", "kube-system", "--selector", "k8s-app=kube-proxy")


def proxies() -> tuple[ProxyProcess, ...]:
    """Those that run here; processes of other PID namespaces are not seen."""
    found = []
    for text in rivals():
        name, _, rest = text.rpartition("[")
        pid = int(rest.rstrip("]"))
        found.append(ProxyProcess(_program(pid, name), pid, _state(pid) in _STOPPED))
    return tuple(found)


def restart(node: str) -> tuple[Command, ...]:
    """By the environment, by a unit of systemd, else by ending its pod, which the cluster starts anew."""
    if given := os.environ.get(RESTART):
        return (tuple(shlex.split(given)),)
    if (unit := _unit()) and shutil.which("systemctl"):
        return (("systemctl", "restart", unit),)
    return ((*_POD, "--field-selector", f"spec.nodeName={node}"),)


def _unit() -> str:
    """The unit of what runs, else the one that is enabled; one that is neither is not wanted on this node."""
    there = [one for one in _UNITS if any(Path(folder, f"{one}.service").exists() for folder in _UNIT_FOLDERS)]
    running = {one.name for one in proxies()}
    enabled = {one for one in there if any(_ENABLED.glob(f"*.wants/{one}.service"))}
    return next((one for wanted in (running, enabled) for one in there if one in wanted), "")


def holder(pid: int, what: str) -> Holder:
    return Holder(pid, command(pid), what)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def _program(pid: int, name: str) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return name
    return "kpx" if "daemon" in words else "kube-proxy" if any("kube-proxy" in word for word in words[:2]) else name


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""
