"""Tries connections from the node and from its pods: the only part of the doctor that sends anything."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from kpx.doctor.facts import Call, Outcome, Reach
from kpx.kernel.links import addresses
from kpx.kernel.network_namespaces import entered
from kpx.kernel.peers import peers
from kpx.kernel.routes import Routing
from kpx.net import family_of
from kpx.trace.reading.senders import OUTSIDE

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM)
_WORD = b"\n"


def pods() -> dict[str, Path]:
    """The addresses in the network namespaces behind this node's links, and the namespaces; not behind the uplinks."""
    with Routing() as routing:
        uplinks = {routing.route(address).interface for address in OUTSIDE.values()}
    own = {one.address for one in addresses()}
    behind = [namespace for interface, namespace in peers() if interface not in uplinks]
    return {address: namespace for namespace in behind for address in _addresses(namespace) if address not in own}


def _addresses(namespace: Path) -> list[str]:
    with entered(namespace):
        return [one.address for one in addresses() if one.interface != "lo" and not one.address.startswith("fe80")]


def connect(namespace: Path | None, call: Call, seconds: float) -> Reach:
    """One connection, or one datagram; `namespace` is that of a pod, None for the node itself."""
    sender = call.sender or "the node"
    if call.protocol not in _KINDS:
        return Reach(Outcome.SILENT, sender, f"connections of {call.protocol} are not tried")
    with _open(namespace, call) as opened:
        opened.settimeout(seconds)
        try:
            opened.connect((call.address, call.port))
            if call.protocol == "udp":
                opened.send(_WORD)
                opened.recv(1)
        except ConnectionRefusedError:
            return Reach(Outcome.REFUSED, sender)
        except TimeoutError:
            silent = call.protocol == "udp"
            return Reach(Outcome.SILENT if silent else Outcome.TIMEOUT, sender, f"within {seconds:g} s")
        except OSError as error:
            outcome = Outcome.UNREACHABLE if error.errno in _UNREACHABLE else Outcome.TIMEOUT
            return Reach(outcome, sender, os.strerror(error.errno or 0))
    return Reach(Outcome.ANSWERED, sender)


def _open(namespace: Path | None, call: Call) -> socket.socket:
    with entered(namespace):
        return socket.socket(family_of(call.address).af, _KINDS[call.protocol])
