"""Who sends the packet: a pod of this node, the node itself, somebody outside, or a certain address."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from kpx.kernel.links import InterfaceAddress
from kpx.kernel.routes import Neighbour, Route
from kpx.net import Family, canonical_ip, family_of
from kpx.trace.result import Sender
from kpx.trace.target import Target

# Where nobody is: an address kept for documentation (RFC 5737, RFC 3849).
OUTSIDE = {Family.IPV4: "203.0.113.1", Family.IPV6: "2001:db8::1"}
ANY_POD = "stands for any pod of this node"
_LINK_LOCAL = ("fe80:", "169.254.")


class Surroundings(Protocol):
    """Who may send to this node, or by it."""

    def route_to(self, destination: str) -> Route:
        """The route of what the node sends to a destination."""

    def neighbours(self, family: Family) -> list[Neighbour]:
        """The hosts next to this node."""

    def addresses(self, family: Family) -> list[InterfaceAddress]:
        """The node's own addresses."""


class UnknownSender(Exception):
    """A sender that cannot be found here; the text is a sentence."""


def find_sender(
    text: str, target: Target, family: Family, facts: Surroundings, avoid: Collection[str] = ()
) -> tuple[Sender, str]:
    """The sender, and the address that it sends to. A pod that stands for any is none of those to `avoid`, if possible.

    Raises `UnknownSender`.
    """
    outside = facts.route_to(OUTSIDE[family])
    destination = target.address or _node_address(family, outside)
    if text == "node":
        return _node(destination, facts, ""), destination
    if text == "external":
        note = "stands for any address outside"
        return Sender("external", OUTSIDE[family], outside.interface, note), destination
    if text in ("pod", ""):
        pod = _pod(family, outside.interface, facts, {destination, *avoid})
        if pod is None:
            if text == "pod":
                raise UnknownSender("No pod is known on this node: give a pod's address, as in --from 10.244.1.7.")
            return _node(destination, facts, "no pod is known on this node"), destination
        return pod, destination
    return _address(text, family, destination, facts), destination


def _node_address(family: Family, outside: Route) -> str:
    if not outside.source:
        raise UnknownSender(f"The node has no {family.value} address that others would reach: give ADDRESS:PORT.")
    return outside.source


def _node(destination: str, facts: Surroundings, note: str) -> Sender:
    return Sender("node", facts.route_to(destination).source or destination, note=note)


def _pod(family: Family, uplink: str, facts: Surroundings, avoid: Collection[str]) -> Sender | None:
    """A host behind an interface that does not lead outside."""
    own = {one.address for one in facts.addresses(family)}
    known = [
        Sender("pod", one.address, one.interface, ANY_POD)
        for one in facts.neighbours(family)
        if one.interface not in (uplink, "lo") and not one.address.startswith(_LINK_LOCAL) and one.address not in own
    ]
    return next((one for one in known if one.address not in avoid), known[0] if known else None)


def _address(text: str, family: Family, destination: str, facts: Surroundings) -> Sender:
    address = canonical_ip(text)
    if address is None:
        raise UnknownSender(f"{text!r} is no sender: it is pod, node, external or an IP address.")
    if family_of(address) is not family:
        raise UnknownSender(f"{address} cannot send to {destination}: they are of different IP families.")
    route = facts.route_to(address)
    if route.kind == "local":
        return Sender("node", address)
    if route.kind != "unicast":
        raise UnknownSender(f"This node has no route to {address}, so nothing can come from there ({route.kind}).")
    outside = route.interface == facts.route_to(OUTSIDE[family]).interface
    return Sender("external" if outside else "pod", address, route.interface)
