"""What a trace is asked about: an address and port, or a node port."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.net import canonical_ip, join_port

PROTOCOLS = ("tcp", "udp", "sctp")
_NODE_PORT = "nodeport"


class BadTarget(ValueError):
    """A target that is none; the text is a sentence for its writer."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the packet is sent. ``address`` is empty for a node port: the node's own address is meant.

    ``name`` is what the target is called, if it was found by a name.
    """

    address: str
    port: int
    protocol: str = "tcp"
    name: str = ""

    def __str__(self) -> str:
        where = join_port(self.address, self.port) if self.address else f"{_NODE_PORT}/{self.port}"
        return f"{where}/{self.protocol}"


def parse_target(text: str) -> Target:
    """``10.96.0.10:53/udp``, ``[fd00::10]:53`` or ``nodeport/30080/tcp``. Raises `BadTarget`."""
    if text.startswith(f"{_NODE_PORT}/"):
        port, _, protocol = text.removeprefix(f"{_NODE_PORT}/").partition("/")
        return Target("", _port(text, port), _protocol(text, protocol))
    head, _, protocol = text.partition("/")
    address, colon, port = head.rpartition(":")
    if not colon:
        raise BadTarget(f"{text!r} names no port: write ADDRESS:PORT, [ADDRESS]:PORT or nodeport/PORT.")
    bracketed = address.startswith("[") and address.endswith("]")
    canonical = canonical_ip(address[1:-1] if bracketed else address)
    if canonical is None or (":" in canonical and not bracketed):
        hint = "; an IPv6 address stands in brackets" if ":" in address and not bracketed else ""
        raise BadTarget(f"{address!r} is no IP address{hint}.")
    return Target(canonical, _port(text, port), _protocol(text, protocol))


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise BadTarget(f"{port!r} in {text!r} is no port: it is a number from 1 to 65535.")
    return int(port)


def _protocol(text: str, protocol: str) -> str:
    name = protocol.lower() or "tcp"
    if name not in PROTOCOLS:
        raise BadTarget(f"{protocol!r} in {text!r} is no protocol of Services: it is tcp, udp or sctp.")
    return name
