"""What a trace is asked about: an address and port, or a node port."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kpx.net import Family, canonical_ip, join_port

PROTOCOLS = ("tcp", "udp", "sctp")
_NODE_PORT = "nodeport"
# IPv6 in brackets, numbers and dots, or more than one colon: no Service is called so.
_LIKE_ADDRESS = re.compile(r"\[|[0-9.]+(:|/|$)|[^/]*:[^/]*:")


class BadTarget(ValueError):
    """A target that is none; the text is a sentence for its writer."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the packet is sent. ``address`` is empty for a node port: the node's own address is meant.

    ``name`` is what the target is called, if it was found by a name; ``family`` is that of a node port (None: the
    sender's).
    """

    address: str
    port: int
    protocol: str = "tcp"
    name: str = ""
    family: Family | None = None

    def __str__(self) -> str:
        where = join_port(self.address, self.port) if self.address else f"{_NODE_PORT}/{self.port}"
        return f"{where}/{self.protocol}"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address or a node port, not as a name: it may still be wrong."""
    return text.startswith(f"{_NODE_PORT}/") or _LIKE_ADDRESS.match(text) is not None


def parse_target(text: str, port: str = "") -> Target:
    """``10.96.0.10:53/udp``, ``[fd00::10]:53`` or ``nodeport/30080/tcp``; `port` is for an address without one.

    Raises `BadTarget`.
    """
    if text.startswith(f"{_NODE_PORT}/"):
        number, _, protocol = text.removeprefix(f"{_NODE_PORT}/").partition("/")
        return Target("", _port(text, number), _protocol(text, protocol))
    head, _, protocol = text.partition("/")
    alone = canonical_ip(head.strip("[]"))
    if alone is not None and port:
        return Target(alone, _port(text, port), _protocol(text, protocol))
    address, colon, number = head.rpartition(":")
    if alone is not None or not colon:
        raise BadTarget(
            f"{text!r} names no port: write ADDRESS:PORT, or give --to-port PORT; an IPv6 address stands in brackets."
        )
    bracketed = address.startswith("[") and address.endswith("]")
    canonical = canonical_ip(address[1:-1] if bracketed else address)
    if canonical is None or (":" in canonical and not bracketed):
        hint = "; an IPv6 address stands in brackets" if ":" in address and not bracketed else ""
        raise BadTarget(f"{address!r} is no IP address{hint}.")
    return Target(canonical, _port(text, number), _protocol(text, protocol))


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BadTarget(f"{port!r} in {text!r} is no port: it is a number from 1 to 65535.")
    return int(port)


def _protocol(text: str, protocol: str) -> str:
    name = protocol.lower() or "tcp"
    if name not in PROTOCOLS:
        raise BadTarget(f"{protocol!r} in {text!r} is no protocol of Services: it is tcp, udp or sctp.")
    return name
