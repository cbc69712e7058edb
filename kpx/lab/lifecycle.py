"""`kpx lab up`, `down`, `status` and `exec`: a lab from its first namespace to the last trace of it."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kpx.lab import namespaces, network, objects, state
from kpx.lab.state import Process, State
from kpx.lab.topology import DEFAULT, NODE, Place, Topology, namespace, namespaces_of
from kpx.proxier.unix_socket import VARIABLE

DEFAULT_NAME = "kpx"
AGENT, DAEMON = "servers", "daemon"
_NAME = re.compile(r"[a-z0-9]{1,16}")
_PROGRAMS = {"ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}
_POLL_SECONDS = 0.02
_READY_SECONDS = 60.0
_LOG_LINES = 5

# What a program of the lab is started through: the place's network namespace, and the lab's own /run, so that
# programs of two labs, or of a lab and the host, share neither /run/xtables.lock nor a socket.
_OWN_RUN = (
    'mkdir -p "$0/kpx-lab" "$0/netns" && mount --bind "$0/../.." "$0/kpx-lab"'
    ' && mount --rbind /run/netns "$0/netns" && mount --rbind "$0" /run'
    # In a program of the lab that starts another, the same /sys is there already.
    ' && { mount -t sysfs sysfs /sys 2>/dev/null || [ -d /sys/class/net/eth0 ]; } && exec "$@"'
)

# Names, for `kpx doctor` in the lab, what starts the daemon anew.
RESTART = "KPX_RESTART"

# Processes that this one started: `down` in the same process reaps them.
_children: list[subprocess.Popen[bytes]] = []


class LabError(Exception):
    """What stands in the way, with the remedy, in one sentence."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab as it is. ``places`` are all its network namespaces; ``missing`` are those that should be there."""

    name: str
    mode: str
    topology: Topology
    manifests: Path
    config: Path
    processes: tuple[Process, ...]
    missing: tuple[str, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        return self.topology.places

    def namespace(self, place: str) -> str:
        """The name of a place's network namespace, for ``ip netns exec``. Raises KeyError for an unknown place."""
        return namespace(self.name, self.topology.place(place).name)

    @property
    def healthy(self) -> bool:
        """Whether every namespace is there and every process runs."""
        return not self.missing and all(process.alive for process in self.processes)


def daemon_command(lab: State) -> list[str]:
    """How the lab starts the daemon."""
    return [sys.executable, "-m", "kpx", "daemon", "--manifests", str(lab.manifests), "--config", str(lab.config)]


def up(
    name: str = DEFAULT_NAME,
    *,
    mode: str = "iptables",
    services: int = 0,
    config: Mapping[str, Any] | None = None,
    topology: Topology = DEFAULT,
    daemon: Callable[[State], Sequence[str]] | None = daemon_command,
) -> Lab:
    """Make a lab and wait until its daemon (if any) is healthy.

    `services` synthetic ones come on top of the lab's own; `config` is merged into its KubeProxyConfiguration.
    Raises `LabError`; then, and when it is interrupted, nothing is left behind.
    """
    lab = _named(name)
    _require_programs()
    with state.locked():
        if lab.exists or namespaces_of(name, namespaces.names()):
            raise LabError(
                f"lab {name!r} is there already, or part of it: remove it with `{named_command('down', name)}`"
            )
        configured = objects.configuration(mode, config or {})
        try:
            lab.create({"mode": mode, "pods_a": topology.pods_a, "pods_b": topology.pods_b})
            network.build(name, topology)
            _start_servers(lab, topology)
            objects.write_configuration(lab.config, configured)
            objects.write_manifests(lab.manifests, topology, services)
            if daemon:
                _start_daemon(lab, daemon(lab), configured)
        except BaseException as failure:
            _remove(lab)
            if isinstance(failure, OSError):
                raise LabError(f"the lab could not be made: {failure}") from failure
            raise
        return status(name)


def down(name: str = DEFAULT_NAME) -> bool:
    """End a lab's processes and remove all that is left of it, however it came to be. False if there was nothing."""
    lab = _named(name)
    if _is_mounted(state.ROOT):  # as it is for programs of a lab alone, which hold on to its namespaces
        raise LabError(f"this is a program of a lab: leave it, and run `{named_command('down', name)}` then")
    with state.locked():
        found = lab.exists or bool(namespaces_of(name, namespaces.names()))
        _remove(lab)
    return found


def status(name: str = DEFAULT_NAME) -> Lab:
    """A lab as it is now. Raises `LabError` if it is not up."""
    lab = _named(name)
    facts = lab.facts()
    if not facts:
        raise LabError(f"lab {name!r} is not up: make it with `{named_command('up', name)}`")
    topology = Topology(tuple(facts["pods_a"]), tuple(facts["pods_b"]))
    wanted = {namespace(name, place.name) for place in topology.places}
    return Lab(
        name=name,
        mode=facts["mode"],
        topology=topology,
        manifests=lab.manifests,
        config=lab.config,
        processes=tuple(lab.processes()),
        missing=tuple(sorted(wanted.difference(namespaces.names()))),
    )


def command(name: str, where: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` in a place of a lab, as a program of that lab. Raises `LabError`."""
    lab = status(name)
    try:
        entered = lab.namespace(where)
    except KeyError:
        known = ", ".join(place.name for place in lab.places)
        raise LabError(f"lab {name!r} has no place {where!r}; it has {known}") from None
    return _entering(State(name), entered, argv)


def exec(name: str, where: str, argv: Sequence[str]) -> None:
    """Become the program `argv` in a place of a lab. Returns only by `LabError` (or OSError)."""
    words = command(name, where, argv)
    os.execvp(words[0], words)


def _entering(lab: State, entered: str, argv: Sequence[str]) -> list[str]:
    into = [
        "nsenter",
        f"--net={namespaces.NETNS / entered}",
        "env",
        f"{RESTART}={shlex.join(restart_command(lab.name))}",
    ]
    if not _mounts_can_be_private():
        own = f"XTABLES_LOCKFILE={lab.run / 'xtables.lock'}", f"{VARIABLE}={lab.run / 'kpx' / 'kpx.sock'}"
        return [*into, *own, *argv]
    return [*into, "unshare", "--mount", "--propagation", "slave", "sh", "-c", _OWN_RUN, str(lab.run), *argv]


def restart_command(name: str) -> list[str]:
    """What starts a lab's daemon anew."""
    return [sys.executable, "-m", "kpx", "lab", "restart", "--name", name]


def restart(name: str) -> None:
    """End a lab's daemon, if it lives, and start it anew; returns when it is healthy. Raises `LabError`."""
    lab = _named(name)
    with state.locked():
        status(name)
        state.end([one for one in lab.processes() if one.role == DAEMON])
        lab.forget(DAEMON)
        _start_daemon(lab, daemon_command(lab), yaml.safe_load(lab.config.read_text(encoding="utf-8")))


def _mounts_can_be_private() -> bool:
    """False in a chroot whose root is no mount: what is mounted there might show up on the host as well."""
    return _is_mounted(Path("/"))


def _is_mounted(path: Path) -> bool:
    """Whether anything is mounted on a path; `Path.is_mount` does not see a bind mount of the same file system."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.split()[4] == str(path) for line in mounts)


def _named(name: str) -> State:
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot name a lab: use up to 16 lower-case letters and digits")
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces, which only root may: run it with sudo")
    return State(name)


def named_command(verb: str, name: str) -> str:
    """How a command of the lab is typed."""
    return f"kpx lab {verb}" + ("" if name == DEFAULT_NAME else f" --name {name}")


def _require_programs() -> None:
    for program, package in _PROGRAMS.items():
        if not shutil.which(program):
            raise LabError(f"the lab needs the program {program}: install the package {package}")


def _start_servers(lab: State, topology: Topology) -> None:
    numbers = [",".join(map(str, pods)) for pods in (topology.pods_a, topology.pods_b)]
    argv = [sys.executable, "-m", "kpx.lab.agent", lab.name, *numbers]
    with lab.log(AGENT).open("wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    _children.append(process)
    lab.record(AGENT, process.pid)
    assert process.stdout is not None
    with process.stdout:
        if not process.stdout.readline():
            raise LabError(f"the lab's servers did not start: {_tail(lab, AGENT)}")


def _start_daemon(lab: State, argv: Sequence[str], configured: Mapping[str, Any]) -> None:
    entering = _entering(lab, namespace(lab.name, NODE), argv)
    with lab.log(DAEMON).open("wb") as log:
        process = subprocess.Popen(entering, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    _children.append(process)
    lab.record(DAEMON, process.pid)
    port = int(str(configured["healthzBindAddress"]).rpartition(":")[2])
    deadline = time.monotonic() + _READY_SECONDS
    while not _healthy(namespace(lab.name, NODE), port):
        if process.poll() is not None:
            raise LabError(f"the daemon ended at its start: {_tail(lab, DAEMON)}")
        if time.monotonic() > deadline:
            raise LabError(f"the daemon is not healthy after {_READY_SECONDS:.0f} s: {_tail(lab, DAEMON)}")
        time.sleep(_POLL_SECONDS)


def _healthy(entered: str, port: int) -> bool:
    """Whether a daemon in this network namespace says that it is healthy."""

    def connect() -> socket.socket:
        namespaces.enter(entered)
        return socket.create_connection(("127.0.0.1", port), timeout=1)

    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        with ThreadPoolExecutor(1) as thread:
            connection.sock = thread.submit(connect).result()
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(lab: State, role: str) -> str:
    """The last lines that a process wrote."""
    lines = lab.log(role).read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(line for line in lines[-_LOG_LINES:] if line) or "it wrote nothing"


def adopt(process: subprocess.Popen[bytes]) -> None:
    """Reap a process of the lab, which this one started, when the lab is removed."""
    _children.append(process)


def _remove(lab: State) -> None:
    names = namespaces_of(lab.name, namespaces.names())
    inodes = {namespaces.inode(name) for name in names}
    others = [process for process in state.processes_in(inodes) if process.pid != os.getpid()]
    state.end([*lab.processes(), *others])
    _children[:] = [child for child in _children if child.poll() is None]
    network.remove(names)
    lab.remove()
