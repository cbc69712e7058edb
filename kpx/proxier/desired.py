"""What one family of this node should do: the frontends of every service port, and which of them changed.

Pure. Any order of the same events ends in the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kpx.net import Family
from kpx.proxier.changes import Tracker
from kpx.proxier.claims import Age, Claim, Claims, claim_of, without
from kpx.proxier.frontends import Frontends, ServiceName, ServicePortName
from kpx.proxier.plan import Viewpoint, plan
from kpx.proxier.slices import PortEndpoints


@dataclass(frozen=True, slots=True)
class Conflict:
    """A service port does not get an address that it asks for: an older Service has it."""

    port: ServicePortName
    claim: Claim
    owner: ServicePortName

    def __str__(self) -> str:
        return f"{self.port} does not get {self.claim}: the older {self.owner} has it"


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed: each changed service port with its frontends before and now (None where it was or is absent).

    ``conflicts`` are those that are new; ``udp`` says that UDP endpoints were among the changes.
    """

    before: Mapping[ServicePortName, Frontends | None]
    now: Mapping[ServicePortName, Frontends | None]
    conflicts: tuple[Conflict, ...] = ()
    udp: bool = False


def merged(first: Delta, second: Delta) -> Delta:
    """Two deltas in a row as one; the conflicts are the second's."""
    return Delta(
        {**second.before, **first.before}, {**first.now, **second.now}, second.conflicts, first.udp or second.udp
    )


@dataclass(slots=True)
class _Wanted:
    """A service port as its Service wants it, before conflicts are settled."""

    age: Age
    frontends: Frontends

    @property
    def claims(self) -> set[Claim]:
        return set(map(claim_of, self.frontends.frontends))


class DesiredState:
    """The frontends of one family, kept up to date from a `Tracker`."""

    def __init__(self, family: Family, view: Viewpoint) -> None:
        self.tracker = Tracker(family, view.node)
        self._view = view
        self._wanted: dict[ServiceName, dict[ServicePortName, _Wanted]] = {}
        self._claims = Claims()
        # The addresses that service ports ask for and others have.
        self.conflicts: dict[ServicePortName, frozenset[Conflict]] = {}
        self.frontends: dict[ServicePortName, Frontends] = {}

    def in_zone(self, zone: str) -> bool:
        """The node is in this zone now; return whether that may change anything."""
        if zone == self._view.zone:
            return False
        self._view = replace(self._view, zone=zone)
        self.tracker.all_changed()
        return True

    def take(self) -> Delta:
        """Bring `frontends` up to date and return what changed since the last call."""
        changed = self.tracker.take()
        touched: set[ServicePortName] = set()
        for name in changed.services:
            touched |= self._plan_service(name)
        before: dict[ServicePortName, Frontends | None] = {}
        now: dict[ServicePortName, Frontends | None] = {}
        conflicts: list[Conflict] = []
        for port in touched:
            conflicts += self._new_conflicts(port)
            old, new = self.frontends.get(port), self._settled(port)
            if old != new:
                before[port], now[port] = old, new
                if new is None:
                    del self.frontends[port]
                else:
                    self.frontends[port] = new
        return Delta(before, now, tuple(conflicts), changed.udp)

    def _plan_service(self, name: ServiceName) -> set[ServicePortName]:
        """Plan a Service anew; return the service ports to settle: its own, past and present, and its rivals."""
        old = self._wanted.pop(name, {})
        specs = self.tracker.specs(name)
        endpoints: PortEndpoints = self.tracker.endpoints(name) if specs else {}
        new = {
            spec.name: _Wanted(
                spec.age, plan(spec, endpoints.get((spec.name.port, spec.name.protocol), ()), self._view)
            )
            for spec in specs
        }
        if new:
            self._wanted[name] = new
        touched = old.keys() | new.keys()
        rivals: set[ServicePortName] = set()
        for port in touched:
            was, wants = old.get(port), new.get(port)
            rivals |= self._claims.replace(
                port, wants.age if wants else None, was.claims if was else set(), wants.claims if wants else set()
            )
        return touched | rivals

    def _settled(self, port: ServicePortName) -> Frontends | None:
        """The service port with the addresses that it gets."""
        wanted = self._wanted.get(port.service, {}).get(port)
        return without(wanted.frontends, (one.claim for one in self.conflicts.get(port, ()))) if wanted else None

    def _new_conflicts(self, port: ServicePortName) -> frozenset[Conflict]:
        wanted = self._wanted.get(port.service, {}).get(port)
        lost = self._claims.lost(port, wanted.claims) if wanted else {}
        found = frozenset(Conflict(port, claim, owner) for claim, owner in lost.items())
        known = self.conflicts.pop(port, frozenset())
        if found:
            self.conflicts[port] = found
        return found - known
