"""Which packets are to be traced: of whom, to where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from kpx.kernel.conntrack_events import Wanted
from kpx.net import Family, family_of
from kpx.trace.packet import PROTOCOL_NUMBERS
from kpx.trace.target import Target


class Origin(Enum):
    """Where packets come from, as this node tells it: by the interface that they come in by."""

    ANYWHERE = ""
    NODE = "node"
    POD = "pod"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Senders:
    """Whose packets are traced. ``address`` and ``port`` are theirs; empty and 0 are any.

    ``uplinks`` are the interfaces that lead outside, by family: needed to tell pods from others.
    """

    origin: Origin = Origin.ANYWHERE
    address: str = ""
    port: int = 0
    uplinks: tuple[tuple[Family, str], ...] = ()

    def uplink(self, family: Family) -> str:
        return dict(self.uplinks).get(family, "")


def families_of(target: Target) -> tuple[Family, ...]:
    """That of its address; of a node port that is not one family's, both."""
    if target.address:
        return (family_of(target.address),)
    return (target.family,) if target.family else tuple(Family)


def wanted(targets: Sequence[Target], senders: Senders) -> tuple[Wanted, ...]:
    """The connections to the targets, each once; a node port is one of both families."""
    found: dict[Wanted, None] = {}
    for target in targets:
        for family in families_of(target):
            if senders.address and family_of(senders.address) is not family:
                continue
            protocol = PROTOCOL_NUMBERS[target.protocol]
            found[Wanted(family, protocol, target.port, target.address, senders.address, senders.port)] = None
    return tuple(found)
