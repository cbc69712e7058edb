"""What the proxier tells those around it: metrics, health, conntrack. They never decide what is programmed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kpx.cluster.events import Key
from kpx.cluster.objects import Node
from kpx.net import Family
from kpx.proxier.backend import Outcome
from kpx.proxier.desired import Conflict, Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.phases import Phase


@dataclass(frozen=True, slots=True)
class Sync:
    """One sync of one family, whether it succeeded or not.

    ``delta`` is what changed since the last sync that succeeded; ``latencies`` are the seconds from the change of
    each endpoint in the cluster to now. ``frontends`` is the state that the kernel was brought to, and ``conflicts``
    are the addresses that service ports do without: do not change them, and copy what is used on another thread.
    ``reason`` says why the sync was full, or why there was one. ``drift`` says what others did to our rules, if that
    was noticed, and ``repaired`` what was found to be wrong and mended, line by line. ``phases`` are
    the parts of ``seconds``.
    """

    family: Family
    full: bool
    seconds: float
    delta: Delta
    frontends: Mapping[ServicePortName, Frontends]
    outcome: Outcome | None = None
    error: str = ""
    drift: str = ""
    repaired: tuple[str, ...] = ()
    latencies: tuple[float, ...] = ()
    conflicts: Mapping[ServicePortName, frozenset[Conflict]] = field(default_factory=dict)
    reason: str = ""
    phases: Mapping[Phase, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.outcome is not None


class Observer:
    """Does nothing; observers override what they are interested in. All methods are called on the loop's thread."""

    def service_event(self, family: Family, pending: int) -> None:
        """A Service event arrived; `pending` Services have changes that are not programmed yet."""

    def slice_event(self, family: Family, *, changed: bool) -> None:
        """An EndpointSlice event of this family arrived, and changed something or not."""

    def node(self, node: Node) -> None:
        """This node's object is now like this."""

    def rejected(self, key: Key, reason: str) -> None:
        """An object was left out because it cannot be proxied."""

    def accepted(self, key: Key) -> None:
        """An object is used, or gone, whatever it was before."""

    def queued(self, family: Family) -> None:
        """A sync was requested."""

    def synced(self, sync: Sync) -> None:
        """A sync ended."""


class Observers(Observer):
    """Several observers as one, told in their order."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def service_event(self, family: Family, pending: int) -> None:
        for one in self._observers:
            one.service_event(family, pending)

    def slice_event(self, family: Family, *, changed: bool) -> None:
        for one in self._observers:
            one.slice_event(family, changed=changed)

    def node(self, node: Node) -> None:
        for one in self._observers:
            one.node(node)

    def rejected(self, key: Key, reason: str) -> None:
        for one in self._observers:
            one.rejected(key, reason)

    def accepted(self, key: Key) -> None:
        for one in self._observers:
            one.accepted(key)

    def queued(self, family: Family) -> None:
        for one in self._observers:
            one.queued(family)

    def synced(self, sync: Sync) -> None:
        for one in self._observers:
            one.synced(sync)
