"""The network: a node that forwards between the pod that asks and the pods that answer."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.objects import NODE_IP, PODS
from kpx.lab import namespaces, state

NODE, CLIENT, PODS_SIDE = "kpx-bench-node", "kpx-bench-client", "kpx-bench-pods"
_LOCK = Path("/run/kpx-bench.lock")
_ALL = (NODE, CLIENT, PODS_SIDE)
_CLIENT_LINK, _PODS_LINK = ("10.192.0.1", "10.192.0.2"), ("10.192.0.5", "10.192.0.6")
CLIENT_IP = _CLIENT_LINK[1]

# A refusal is to come at once and every time; flows that were reset are to leave the table soon.
_SYSCTLS = {
    "net/ipv4/ip_forward": 1,
    "net/ipv4/icmp_ratelimit": 0,
    "net/ipv4/icmp_msgs_per_sec": 1_000_000,
    "net/ipv4/icmp_msgs_burst": 1_000_000,
    "net/netfilter/nf_conntrack_tcp_timeout_close": 1,
}

_COMMANDS = {
    NODE: f"""
        link set lo up
        address add {NODE_IP}/32 dev lo
        link add client type veth peer name eth0 netns {CLIENT}
        link add pods type veth peer name eth0 netns {PODS_SIDE}
        address add {_CLIENT_LINK[0]}/30 dev client
        address add {_PODS_LINK[0]}/30 dev pods
        link set client up
        link set pods up
        route add {PODS} via {_PODS_LINK[1]}
        """,
    CLIENT: f"""
        address add {_CLIENT_LINK[1]}/30 dev eth0
        link set eth0 up
        route add default via {_CLIENT_LINK[0]}
        """,
    PODS_SIDE: f"""
        link set lo up
        address add {_PODS_LINK[1]}/30 dev eth0
        link set eth0 up
        route add default via {_PODS_LINK[0]}
        route add local {PODS} dev lo
        """,
}


@contextmanager
def alone(waiting: Callable[[], None]) -> Iterator[None]:
    """Let no other benchmark of this machine run meanwhile: the names are the same, and so are the processors.

    `waiting` is called if one has to be waited for.
    """
    with _LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def network() -> Iterator[None]:
    """Make the namespaces, and remove them, with every process in them, at the end. Raises OSError."""
    remove()
    try:
        for name in _ALL:
            namespaces.make(name)
        with namespaces.entered(NODE):
            for key, value in _SYSCTLS.items():
                Path("/proc/sys", key).write_text(str(value), encoding="ascii")
        for name, commands in _COMMANDS.items():
            _ip(name, commands)
        yield
    finally:
        remove()


def remove() -> None:
    """Remove what an earlier run may have left, processes first."""
    found = [name for name in _ALL if name in namespaces.names()]
    state.end(state.processes_in({namespaces.inode(name) for name in found}))
    for name in found:
        namespaces.remove(name)


def _ip(name: str, commands: str) -> None:
    done = subprocess.run(
        ["ip", "-n", name, "-batch", "-"], input=commands, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(done.stderr)
