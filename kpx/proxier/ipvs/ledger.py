"""What the kernel should hold in ipvs mode, who asks for it, and the edits that follow from changes.

Pure. Addresses, entries of sets and refusals can be asked for by several service ports; they go with the last one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from kpx.kernel.ipvs.types import Real, Virtual
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.ipvs.names import ORDER, IpSet
from kpx.proxier.ipvs.render import Member, PortState, Server

T = TypeVar("T", bound=Hashable)


class Change(NamedTuple):
    """A service port's state before and now."""

    port: ServicePortName
    before: PortState
    now: PortState


@dataclass(slots=True)
class Edit:
    """What is to be changed in the kernel. ``servers`` are virtual servers before and after, None for none.

    ``rules`` says whether the chains may be others now.
    """

    servers: dict[Virtual, tuple[Server | None, Server | None]] = field(default_factory=dict)
    bound: list[str] = field(default_factory=list)
    unbound: list[str] = field(default_factory=list)
    entered: list[Member] = field(default_factory=list)
    taken_out: list[Member] = field(default_factory=list)
    rules: bool = False

    @property
    def filling(self) -> list[Member]:
        """The entries to add, in the order of `IpSet`."""
        return sorted(self.entered, key=lambda one: ORDER[one.set])

    @property
    def emptying(self) -> list[Member]:
        """The entries to remove, the other way round."""
        return sorted(self.taken_out, key=lambda one: -ORDER[one.set])


class Ledger:
    """The state that all service ports together ask for."""

    def __init__(self) -> None:
        self._servers: dict[Virtual, dict[ServicePortName, Server]] = {}
        self._addresses: Counter[str] = Counter()
        self._members: Counter[Member] = Counter()
        self._refusals: Counter[str] = Counter()
        self.sizes: Counter[IpSet] = Counter()
        self.reals = 0

    @property
    def virtuals(self) -> Collection[Virtual]:
        return self._servers.keys()

    @property
    def servers(self) -> dict[Virtual, Server]:
        """All virtual servers, as they should be."""
        return {virtual: _settled(claims) for virtual, claims in self._servers.items()}

    @property
    def addresses(self) -> set[str]:
        return set(self._addresses)

    @property
    def refusals(self) -> set[str]:
        return set(self._refusals)

    @property
    def used(self) -> set[IpSet]:
        """The sets that have entries."""
        return {one for one, size in self.sizes.items() if size}

    def members(self) -> dict[IpSet, set[Member]]:
        """The entries of every set, by set."""
        found: dict[IpSet, set[Member]] = {one: set() for one in IpSet}
        for member in self._members:
            found[member.set].add(member)
        return found

    def server(self, virtual: Virtual) -> Server | None:
        """A virtual server as it should be: of two service ports that ask for it, the first by name has it."""
        claims = self._servers.get(virtual)
        return _settled(claims) if claims else None

    def owner(self, virtual: Virtual) -> ServicePortName | None:
        """The service port whose virtual server it is."""
        claims = self._servers.get(virtual)
        return min(claims) if claims else None

    def change(self, changes: Iterable[Change]) -> Edit:
        """Take service ports from one state to another."""
        changes = list(changes)
        edit = Edit()
        edit.entered, edit.taken_out = _count(self._members, [(one.before.members, one.now.members) for one in changes])
        edit.bound, edit.unbound = _count(
            self._addresses, [(one.before.addresses, one.now.addresses) for one in changes]
        )
        refusals = _count(self._refusals, [(one.before.refusals, one.now.refusals) for one in changes])
        used = self.used
        self.sizes.update(one.set for one in edit.entered)
        self.sizes.subtract(one.set for one in edit.taken_out)
        edit.rules = any(refusals) or used != self.used
        touched = {virtual for one in changes for virtual in (*one.before.servers, *one.now.servers)}
        before = {virtual: self.server(virtual) for virtual in touched}
        for one in changes:
            self._claim(one)
        for virtual, was in before.items():
            now = self.server(virtual)
            if was != now:
                edit.servers[virtual] = was, now
                self.reals += (len(now.reals) if now else 0) - (len(was.reals) if was else 0)
        return edit

    def _claim(self, change: Change) -> None:
        for virtual in change.before.servers.keys() - change.now.servers.keys():
            claims = self._servers[virtual]
            del claims[change.port]
            if not claims:
                del self._servers[virtual]
        for virtual, server in change.now.servers.items():
            self._servers.setdefault(virtual, {})[change.port] = server


def _settled(claims: Mapping[ServicePortName, Server]) -> Server:
    return next(iter(claims.values())) if len(claims) == 1 else claims[min(claims)]


def _count(counter: Counter[T], changes: list[tuple[tuple[T, ...], tuple[T, ...]]]) -> tuple[list[T], list[T]]:
    """Count what is asked for anew, and no more; return what got its first or lost its last asker."""
    touched = dict.fromkeys(one for before, now in changes for one in (*before, *now))
    had = {one for one in touched if counter[one]}
    for before, now in changes:
        counter.subtract(before)
        counter.update(now)
    entered = [one for one in touched if counter[one] and one not in had]
    left = [one for one in touched if not counter[one]]
    for one in left:
        del counter[one]
    return entered, [one for one in left if one in had]


def real_changes(was: Server | None, now: Server | None) -> tuple[list[Real], list[Real]]:
    """The real servers to add and to remove."""
    before, after = was.reals if was else (), now.reals if now else ()
    had, wants = set(before), set(after)
    return [one for one in after if one not in had], [one for one in before if one not in wants]
