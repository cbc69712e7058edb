"""The virtual servers that an argument names: ``10.96.0.1``, ``10.96.0.1:443/tcp``, ``[fd00::1]:53``, ``fwmark:5``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.types import PROTOCOLS, Virtual
from kpx.net import canonical_ip

_FORM = re.compile(r"(?:\[(?P<inner>[^]]*)\]|(?P<outer>[^/[]*?))(?::(?P<port>[^:/]*))?(?:/(?P<protocol>.*))?")
_MARK = "fwmark:"


class BadSelection(ValueError):
    """A text that names no virtual server; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The parts that must agree; a port or protocol that is None may be any. With a mark, it alone counts."""

    text: str
    address: str = ""
    port: int | None = None
    protocol: str | None = None
    mark: int | None = None

    def __str__(self) -> str:
        return self.text

    def names(self, virtual: Virtual) -> bool:
        if self.mark is not None or virtual.mark:
            return self.mark == virtual.mark
        return self._agrees(virtual.protocol, virtual.address, virtual.port)

    def names_that_of(self, connection: Connection) -> bool:
        """Whether the connection is to such a virtual server."""
        return self._agrees(connection.protocol, connection.virtual, connection.virtual_port)

    def _agrees(self, protocol: str, address: str, port: int) -> bool:
        return address == self.address and self.port in (None, port) and self.protocol in (None, protocol)


def parse(text: str) -> Selection:
    """The selection that a text stands for; raises `BadSelection`."""
    if text.startswith(_MARK):
        return Selection(text, mark=_number(text.removeprefix(_MARK), "firewall mark", 1, 0xFFFFFFFF))
    address, port, protocol = _parts(text)
    canonical = canonical_ip(address)
    if canonical is None:
        raise BadSelection(f"{address!r} is no IP address; names are not looked up")
    if protocol is not None and protocol.upper() not in PROTOCOLS:
        raise BadSelection(f"{protocol!r} is no protocol: write tcp, udp or sctp")
    return Selection(
        text,
        canonical,
        None if port is None else _number(port, "port", 0, 65535),
        None if protocol is None else protocol.upper(),
    )


def _parts(text: str) -> tuple[str, str | None, str | None]:
    """The texts of address, port and protocol; an IPv6 address without brackets has no port."""
    bare, _, protocol = text.partition("/")
    if bare.count(":") > 1 and "[" not in bare:
        return bare, None, protocol if "/" in text else None
    match = _FORM.fullmatch(text)
    if not match:
        raise BadSelection(f"{text!r} is not of the form ADDRESS[:PORT][/PROTOCOL] or fwmark:NUMBER")
    address = match["outer"] if match["inner"] is None else match["inner"]
    return address, match["port"], match["protocol"]


def _number(digits: str, what: str, least: int, most: int) -> int:
    if not (digits.isascii() and digits.isdigit() and least <= int(digits) <= most):
        raise BadSelection(f"{digits!r} is no {what}: write a number from {least} to {most}")
    return int(digits)
