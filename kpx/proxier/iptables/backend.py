"""iptables mode in one family: reads the tables, applies edits, isolates what the kernel refuses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

from kpx.kernel.iptables.program import Iptables, IptablesError, Variant
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.iptables.compare import FOOTPRINT, Comparison, concerns, keep_text
from kpx.proxier.iptables.edit import Edit
from kpx.proxier.iptables.footprint import removal
from kpx.proxier.iptables.render import NO_RULES, PortRules, refuses, render
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.iptables.skeleton import skeleton_rules
from kpx.proxier.iptables.watched import WatchedTables, named
from kpx.proxier.phases import Phase, Phases

logger = logging.getLogger(__name__)

# Above this many endpoints kube-proxy leaves the comments out of their rules.
LARGE_CLUSTER_ENDPOINTS = 1000
# The work of iptables-nft-restore grows with the square of its input. The legacy one's does not, and each of its runs
# takes the whole table from the kernel and puts it back.
_PORTS_PER_INPUT = {Variant.NFT: 250, Variant.LEGACY: 1 << 30}
# In a full sync, an input is made in parts of so many: the program works on one while the next is made.
_PORTS_PER_PART = 1000


class Change(NamedTuple):
    """What takes a service port to its frontends of now: an edit, and how many rules more that makes, by table."""

    now: Frontends | None
    edit: Edit
    growth: Counter[str]


Changes = dict[ServicePortName, Change]
Refused = dict[ServicePortName, str]


class _Refusal(IptablesError):
    """The kernel, or the restore program, refuses what some of these service ports ask for."""

    def __init__(self, ports: Collection[ServicePortName], error: IptablesError) -> None:
        super().__init__(str(error), error.process)
        self.ports = ports


class IptablesBackend:
    """The `Backend` of iptables mode.

    `refresh` is called before each full sync to renew what the settings say of the node: the addresses that node
    ports answer on, and the accounting objects.
    """

    def __init__(
        self,
        iptables: Iptables,
        settings: Settings,
        refresh: Callable[[Settings], Settings] = lambda settings: settings,
    ) -> None:
        self._iptables = iptables
        self._settings = settings
        self._refresh = refresh
        self._installed: dict[ServicePortName, Frontends] = {}
        self._endpoints = 0
        self._owned: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._tables = WatchedTables(iptables, concerns)
        self._phases = Phases()

    def close(self) -> None:
        """Stop watching the tables; the rules stay."""
        self._tables.close()

    def service_cidrs(self, networks: tuple[str, ...]) -> bool:
        del networks  # kube-proxy's chains do not depend on them
        return False

    def drifted(self) -> str | None:
        return self._tables.changed_by_others()

    def sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Outcome:
        large = sum(len(one.endpoints) for one in frontends.values()) > LARGE_CLUSTER_ENDPOINTS
        self._settings = replace(self._refresh(self._settings), comments=not large)
        refused: Refused = {}
        try:
            while True:
                served = {port: one for port, one in frontends.items() if port not in refused}
                try:
                    comparison = self._sync(served)
                except _Refusal as refusal:
                    refused |= self._culprits(refusal.ports, served, refusal)
                else:
                    break
        except IptablesError as error:
            raise BackendError(str(error)) from error
        return Outcome(dict(self._written), dict(self._owned), refused, comparison.differences, comparison.count)

    def _read(self) -> Comparison:
        with self._phases.timed(Phase.READ):
            return Comparison(self._tables.read(keep_text))

    def _sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Comparison:
        """Make the kernel match, whatever is there; raises `_Refusal` where it refuses service ports."""
        self._installed, self._endpoints = {}, 0
        self._owned, self._written = skeleton_rules(self._settings), Counter()
        comparison = self._read()
        self._edit(comparison.skeleton(self._settings))
        for ports in self._inputs(frontends):
            self._fill(comparison, {port: frontends[port] for port in ports})
        self._edit(comparison.leftovers())
        return comparison

    def _culprits(
        self, ports: Collection[ServicePortName], frontends: Mapping[ServicePortName, Frontends], error: IptablesError
    ) -> Refused:
        """The service ports among these that the kernel refuses, and why.

        A refused input may have changed a table before the one that it was refused for, so that each try starts from
        what the kernel holds then.
        """
        if self._tables.disturbed:
            raise error
        if len(ports) == 1:
            return {port: str(error) for port in ports}
        refused: Refused = {}
        some = list(ports)
        for half in (some[: len(some) // 2], some[len(some) // 2 :]):
            comparison = self._read()
            try:
                self._program({port: self._found(comparison, frontends[port]) for port in half})
            except _Refusal as refusal:
                refused |= self._culprits(half, frontends, refusal)
        return refused

    def update(self, delta: Delta) -> Outcome:
        after = {**self._installed, **delta.now}
        endpoints = self._endpoints + sum(
            _endpoints(now) - _endpoints(self._installed.get(port)) for port, now in delta.now.items()
        )
        self._written = Counter()
        try:
            if self._settings.comments is (endpoints <= LARGE_CLUSTER_ENDPOINTS):
                for ports in self._inputs(delta.now):
                    self._program({port: self._change(port, delta.now[port]) for port in ports})
                return Outcome(dict(self._written), dict(self._owned))
        except _Refusal as refusal:
            logger.warning("all rules are compared, a change was refused: %s", refusal)
        except IptablesError as error:
            raise BackendError(str(error)) from error
        return self.sync({port: one for port, one in after.items() if one is not None})

    def phases(self) -> dict[Phase, float]:
        return self._phases.take()

    def tend(self) -> None:
        """Nothing waits in this mode."""

    def cleanup(self) -> None:
        try:
            if held := self._tables.remove(removal(self._tables.read(keep_text), FOOTPRINT)):
                raise BackendError(f"chains that rules of others lead to are empty, but still there: {named(held)}")
        except IptablesError as error:
            raise BackendError(str(error)) from error

    def _inputs(self, ports: Iterable[ServicePortName]) -> Iterator[list[ServicePortName]]:
        """The service ports in parts that go into one restore input each. A service port is whole in its part."""
        return _batches(ports, _PORTS_PER_INPUT[self._iptables.variant])

    def _rules(self, frontends: Frontends | None) -> PortRules:
        return render(frontends, self._settings) if frontends else NO_RULES

    def _change(self, port: ServicePortName, now: Frontends | None) -> Change:
        """A change from what we have installed."""
        before, after = self._rules(self._installed.get(port)), self._rules(now)
        growth = Counter(after.counts())
        growth.subtract(before.counts())
        return Change(now, Edit.between(before, after), growth)

    def _found(self, comparison: Comparison, now: Frontends) -> Change:
        """A change from what was found in the kernel."""
        rules = render(now, self._settings)
        return Change(now, comparison.port(rules), Counter(rules.counts()))

    def _fill(self, comparison: Comparison, frontends: Mapping[ServicePortName, Frontends]) -> None:
        """Mend what was found in the kernel of service ports, in one input; raises `_Refusal` as `_program` does."""
        growth: Counter[str] = Counter()
        # What goes into the filter table must come first.
        refusing = {port: one for port, one in frontends.items() if refuses(one)}
        others = (port for port in frontends if port not in refusing)

        def edits() -> Iterator[Edit]:
            for ports in chain([refusing], _batches(others, _PORTS_PER_PART)):
                changes = [self._found(comparison, frontends[port]) for port in ports]
                for change in changes:
                    growth.update(change.growth)
                yield Edit.merged(change.edit for change in changes)

        self._write(frontends, edits())
        for port, now in frontends.items():
            self._install(port, now)
        self._owned.update(growth)

    def _program(self, changes: Changes) -> None:
        """Make changes, in one input; raises `_Refusal` if the fault is in them, and not in the programs or tables."""
        self._write(changes, [Edit.merged(change.edit for change in changes.values())])
        for port, change in changes.items():
            self._install(port, change.now)
            self._owned.update(change.growth)

    def _write(self, ports: Collection[ServicePortName], edits: Iterable[Edit]) -> None:
        try:
            written: Counter[str] = Counter()
            with self._phases.timed(Phase.WRITE):
                self._tables.edit(_counted(edits, written))
        except IptablesError as error:
            if self._broken():
                raise
            raise _Refusal(ports, error) from error
        self._written.update(written)

    def _install(self, port: ServicePortName, now: Frontends | None) -> None:
        """Remember what is in the kernel now."""
        before = self._installed.pop(port, None)
        if now is not None:
            self._installed[port] = now
        self._endpoints += _endpoints(now) - _endpoints(before)

    def _broken(self) -> bool:
        """Whether even an input that changes nothing fails: the fault is then not in the rules."""
        try:
            self._iptables.restore(["*nat", "COMMIT"])
        except IptablesError:
            return True
        return False

    def _edit(self, edit: Edit) -> None:
        """Make an edit; chains that it deletes and rules of others hold are emptied."""
        with self._phases.timed(Phase.WRITE):
            self._tables.remove(edit)
        self._written.update(_counts(edit))


def _counts(edit: Edit) -> dict[str, int]:
    """The number of rules that an edit writes, by table."""
    return {table: edit.count(table) for table in ("filter", "nat")}


def _counted(edits: Iterable[Edit], written: Counter[str]) -> Iterator[Edit]:
    for edit in edits:
        written.update(_counts(edit))
        yield edit


def _batches(ports: Iterable[ServicePortName], size: int) -> Iterator[list[ServicePortName]]:
    rest = iter(ports)
    while some := list(islice(rest, size)):
        yield some


def _endpoints(frontends: Frontends | None) -> int:
    return len(frontends.endpoints) if frontends else 0
