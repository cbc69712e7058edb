"""A trace on this node: one single state of its rules is read, or they are read again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kpx.kernel.iptables.program import IptablesError, legacy_tables
from kpx.kernel.iptables.watch import legacy_socket, table_entries
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable
from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft.connection import Nft
from kpx.net import Family, canonical_ip, family_of
from kpx.trace.facts import Facts
from kpx.trace.outcome import Rules
from kpx.trace.packet import Packet
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.rules import KernelRules
from kpx.trace.reading.senders import ANY_POD, Surroundings, find_sender
from kpx.trace.result import Trace
from kpx.trace.target import Target
from kpx.trace.tracing import trace

T = TypeVar("T")

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.1
NO_RULES = "There are no rules of a service proxy here: neither kpx nor kube-proxy has made any."


class CannotTrace(Exception):
    """There is nothing to trace here, or it must not be read; the text is a sentence."""


def trace_here(target: Target, sender: str, *, state: str = "NEW") -> Trace:
    """Trace a packet through the kernel of this network namespace. Raises `CannotTrace`."""
    if os.geteuid() != 0:
        raise CannotTrace("The kernel shows its rules to root only: run it with sudo, or in a privileged container.")
    family = family_asked(target, sender)
    with Nft() as nft:
        return consistent(lambda: _trace(target, sender, family, nft, state), lambda: fingerprint(family, nft))


def family_asked(target: Target, sender: str) -> Family:
    """The family of the packet; of a node port, that of its sender."""
    return target.family or family_of(target.address or canonical_ip(sender) or "0.0.0.0")


def _trace(target: Target, sender: str, family: Family, nft: Nft, state: str) -> Trace:
    facts = KernelFacts(nft)
    try:
        rules = KernelRules(family, nft, facts)
        found = proxies(rules)
        if not found:
            raise CannotTrace(NO_RULES)
        return follow(target, sender, Node(family, facts, rules, facts, found), state=state)
    finally:
        facts.close()


@dataclass(frozen=True, slots=True)
class Node:
    """Rules and facts that packets of one family are followed through; `kernel` knows who can send."""

    family: Family
    kernel: Surroundings
    rules: Rules
    facts: Facts
    proxies: Sequence[str]


def follow(target: Target, sender: str, node: Node, *, state: str = "NEW") -> Trace:
    """Trace a packet of a sender, as the command line names it. Raises `UnknownSender`."""
    found, destination = find_sender(sender, target, node.family, node.kernel)
    packet = Packet(found.address, destination, target.port, target.protocol, found.interface, state=state)
    traced = trace(target, found, packet, node.rules, node.facts, node.proxies)
    reached = {branch.ending.destination for branch in traced.branches}
    if found.note != ANY_POD or found.address not in reached:
        return traced
    # A pod that reaches itself is treated as no other is.
    found, _ = find_sender(sender, target, node.family, node.kernel, reached)
    packet = replace(packet, source=found.address, incoming=found.interface)
    return trace(target, found, packet, node.rules, node.facts, node.proxies)


def proxies(rules: KernelRules) -> list[str]:
    """Whose rules of Services there are."""
    return [*rules.proxies(), *(["ipvs"] if _serves() else [])]


def _serves() -> bool:
    """Whether IPVS has virtual servers."""
    try:
        with Ipvs() as ipvs:
            return ipvs.serves()
    except IpvsUnavailable:
        return False


def consistent(read: Callable[[], T], fingerprint: Callable[[], object]) -> T:
    """What `read` makes of a state that did not change while it was read."""
    before = fingerprint()
    for _ in range(_ATTEMPTS):
        error: Exception | None = None
        try:
            found = read()
        except (OSError, LookupError, IptablesError) as raised:
            error = raised  # perhaps of something that has gone while it was read
        after = fingerprint()
        if after == before:
            if error is not None:
                raise error
            return found
        before = after
        time.sleep(_PAUSE_SECONDS)  # whoever changes them may be about to end
    raise CannotTrace(f"The rules changed during each of {_ATTEMPTS} attempts to read them: try again.")


def fingerprint(family: Family, nft: Nft) -> object:
    """What changes with the rules: the generation of nf_tables, and how many entries the legacy tables have."""
    try:
        generation = nft.generation()
    except NetlinkError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        generation = 0
    with legacy_socket(family) as asking:
        return generation, {table: table_entries(asking, table) for table in legacy_tables(family)}
