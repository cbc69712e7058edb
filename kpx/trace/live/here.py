"""What a live trace asks of this node besides packets: who its senders are, and its interfaces."""

from __future__ import annotations

import socket
from contextlib import closing

from kpx.kernel.nft.connection import Nft
from kpx.net import Family, canonical_ip
from kpx.trace.live.wanted import Origin, Senders
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.senders import OUTSIDE, UnknownSender


def senders_here(text: str) -> Senders:
    """The senders that a word names: pod, node, external, an IP address, or (empty) any. Raises `UnknownSender`."""
    address = canonical_ip(text)
    if address:
        return Senders(address=address)
    try:
        origin = Origin(text)
    except ValueError:
        raise UnknownSender(f"{text!r} is no sender: it is pod, node, external or an IP address.") from None
    if origin not in (Origin.POD, Origin.EXTERNAL):
        return Senders(origin)
    uplinks = _uplinks()
    if not uplinks:
        raise UnknownSender("This node has no default route, so that pods cannot be told from others: give an address.")
    return Senders(origin, uplinks=uplinks)


def _uplinks() -> tuple[tuple[Family, str], ...]:
    """The interfaces that lead outside."""
    with Nft() as nft, closing(KernelFacts(nft)) as facts:
        found = [(family, facts.route_to(OUTSIDE[family]).interface) for family in Family]
    return tuple((family, interface) for family, interface in found if interface)


def interface_name(number: int) -> str:
    """The name of an interface; empty for none, and for one that is gone."""
    try:
        return socket.if_indextoname(number) if number else ""
    except OSError:
        return ""
