"""nftables mode in one family: reads the table, applies what differs, notices what others do to it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.errors import GenerationChanged, TransactionRefused
from kpx.kernel.nft.expressions import Counter as Count
from kpx.kernel.nft.objects import Chain
from kpx.kernel.nft.transaction import Operation, Transaction, add, delete, destroy
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.logs import v
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.nftables.chains import WholeSet
from kpx.proxier.nftables.containers import containers
from kpx.proxier.nftables.differences import differences
from kpx.proxier.nftables.layout import Renderer, Spot
from kpx.proxier.nftables.ledger import Edit, Ledger
from kpx.proxier.nftables.reading import NOTHING_HELD, Held, read
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.nftables.skeleton import TABLE, skeleton_rules, skeleton_sets
from kpx.proxier.nftables.watch import Watch
from kpx.proxier.phases import Phase, Phases

logger = logging.getLogger(__name__)

# The times that a table is read while somebody else keeps changing it.
_READINGS = 3
# The service ports that are laid out at a time in a full sync, for the sake of memory.
_AT_A_TIME = 500
# Where it is tried what the kernel refuses; never committed.
_TRIAL = TableName(NfFamily.IP, "kpx-trial")

Refused = dict[ServicePortName, str]


class NftablesBackend:
    """The `Backend` of nftables mode.

    `nft` is a connection that both families may share, so that neither takes the other's changes for somebody
    else's. `refresh` is called before each full sync to renew what the settings say of the node.
    """

    def __init__(
        self, nft: Nft, settings: Settings, refresh: Callable[[Settings], Settings] = lambda settings: settings
    ) -> None:
        self._nft = nft
        self._settings = settings
        self._refresh = refresh
        self._containers = containers(settings.nf_family)
        self._renderer = Renderer(settings, self._containers)
        self._ledger = Ledger(self._containers, NOTHING_HELD)
        self._installed: dict[ServicePortName, Frontends] = {}
        self._watch = Watch(settings.table, nft.port)
        self._foreign = ""
        self._unremoved = False
        self._phases = Phases()

    def close(self) -> None:
        """Let go of the kernel; the rules stay."""
        self._watch.close()
        self._nft.close()

    def drifted(self) -> str | None:
        with _translated():
            changes = self._watch.changes()
        foreign, self._foreign = "; ".join(filter(None, (self._foreign, changes))), ""
        return foreign or None

    def service_cidrs(self, networks: tuple[str, ...]) -> bool:
        changed = networks != self._settings.service_cidrs
        self._settings = replace(self._settings, service_cidrs=networks)
        return changed

    def sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Outcome:
        self._settings = self._refresh(self._settings)
        self._renderer = Renderer(self._settings, self._containers)
        with _translated():
            refused: Refused = {}
            while True:
                served = {port: one for port, one in frontends.items() if port not in refused}
                held, edit = self._compared(served)
                try:
                    self._apply(edit, anew=held.table is None)
                except TransactionRefused as error:
                    found = self._culprits(served)
                    if not found:
                        raise
                    v(2, logger, "%s rules: %s", self._settings.family.value, error)
                    refused |= found
                else:
                    break
        self._installed = served
        return self._outcome(edit, refused, differences(held, edit))

    def update(self, delta: Delta) -> Outcome:
        edit = Edit()
        self._ledger.fixed({}, skeleton_sets(self._settings, self._containers), edit)
        former = (self._installed.pop(port, None) for port in delta.now)
        layout = self._renderer.layout
        self._ledger.change(
            [(layout(was), layout(now)) for was, now in zip(former, delta.now.values(), strict=True)], edit
        )
        self._installed.update((port, now) for port, now in delta.now.items() if now is not None)
        with _translated():
            with self._phases.timed(Phase.READ):
                counters = self._counters(edit)
            edit.carry(counters)
            try:
                self._apply(edit)
            except TransactionRefused as error:
                # Somebody else has changed what the edit stands on, or a service port is at fault: sync tells.
                v(2, logger, "%s rules are compared anew: %s", self._settings.family.value, error)
                return self.sync(self._installed)
        return self._outcome(edit)

    def phases(self) -> dict[Phase, float]:
        return self._phases.take()

    def tend(self) -> None:
        """Nothing waits in this mode."""

    def cleanup(self) -> None:
        with _translated():
            self._nft.apply(Transaction(self._settings.table, destroy(TABLE)))

    def _compared(self, frontends: Mapping[ServicePortName, Frontends]) -> tuple[Held, Edit]:
        """What the table holds, and the edit to what it should hold; the ledger is of the table after that.

        A table that cannot be edited to fit counts as none: it is made anew.
        """
        with self._phases.timed(Phase.READ):
            held = self._read()
        for found in (held, NOTHING_HELD) if held.fits() else (NOTHING_HELD,):
            self._ledger, edit = Ledger(self._containers, found), Edit()
            self._compare(frontends, found.spots(self._containers), self._ledger, edit)
            if not edit.misfits:
                break
        return found, edit

    def _compare(
        self, frontends: Mapping[ServicePortName, Frontends], spots: dict[Spot, Element], ledger: Ledger, edit: Edit
    ) -> None:
        """The edit from these elements to what the service ports need."""
        counters = {spot: one.counter for spot, one in spots.items() if one.counter and one.counter.packets}
        itemised = {one.name: WholeSet(one) for one in self._containers.all()}
        sets = {**itemised, **skeleton_sets(self._settings, self._containers)}
        ledger.fixed(skeleton_rules(self._settings, self._containers), sets, edit)
        rest = iter(frontends.values())
        while some := [self._renderer.layout(one) for one in islice(rest, _AT_A_TIME)]:
            ledger.compare(some, spots, edit)
        ledger.leave(spots, edit)
        edit.carry(counters)

    def _read(self) -> Held:
        """The table as it is: read again if somebody else changes it meanwhile."""
        for _ in range(_READINGS):
            held = read(self._nft, self._settings.table)
            changes = self._watch.changes()
            if not changes:
                break
            self._foreign = "; ".join(filter(None, (self._foreign, changes)))
        return held

    def _counters(self, edit: Edit) -> dict[Spot, Count]:
        """The counters of the slots that are about to move."""
        found: dict[Spot, Count] = {}
        for (name, _), key in edit.moves.items():
            element = self._nft.element(self._settings.table, name, key)
            if element is not None and element.counter is not None:
                found[name, key] = element.counter
        return found

    def _apply(self, edit: Edit, *, anew: bool = False) -> None:
        """Make the changes, then remove what is in use no more."""
        operations = [*edit.operations(self._containers)]
        if anew:
            operations[:0] = [*destroy(TABLE), add(TABLE)]
        transaction = Transaction(self._settings.table, tuple(operations))
        with self._phases.timed(Phase.WRITE):
            self._nft.apply(transaction)
            self._remove_unused()

    def _remove_unused(self) -> None:
        """In a transaction of its own: before Linux 6.2 a chain is busy until its last reference is long gone."""
        chains, sets = self._ledger.unused()
        operations = (
            *(delete(Chain(name)) for name in chains),
            *(delete(self._ledger.sets[name].set) for name in sets),
        )
        try:
            self._nft.apply(Transaction(self._settings.table, operations))
        except TransactionRefused as error:
            self._unremoved = True
            v(2, logger, "what is unused stays until the next change: %s", error)
        else:
            self._unremoved = False
            self._ledger.forget((*chains, *sets))

    def _culprits(self, frontends: Mapping[ServicePortName, Frontends]) -> Refused:
        """The service ports that the kernel refuses even in a table of their own, and why."""
        try:
            self._nft.check(Transaction(_TRIAL._replace(family=self._settings.nf_family), self._alone(frontends)))
        except TransactionRefused as error:
            if len(frontends) < 2:
                return {port: str(error) for port in frontends}
            parts = list(frontends.items())
            half = len(parts) // 2
            return self._culprits(dict(parts[:half])) | self._culprits(dict(parts[half:]))
        return {}

    def _alone(self, frontends: Mapping[ServicePortName, Frontends]) -> tuple[Operation, ...]:
        """What makes a table for these service ports from nothing."""
        edit = Edit()
        self._compare(frontends, {}, Ledger(self._containers, NOTHING_HELD), edit)
        return (add(TABLE), *edit.operations(self._containers))

    def _outcome(self, edit: Edit, refused: Refused | None = None, repaired: tuple[str, ...] = ()) -> Outcome:
        written = Counter(name for spots in (edit.removed, edit.added) for name, _ in spots)
        owned = {name: self._ledger.owned[name] for name in self._ledger.sets if self._ledger.owned[name]}
        repairs = written.total() if repaired else 0
        return Outcome(dict(written), owned, refused or {}, repaired, repairs, self._unremoved)


@contextmanager
def _translated() -> Iterator[None]:
    """What goes wrong with the kernel, as the loop wants to hear it."""
    try:
        yield
    except (OSError, GenerationChanged) as error:
        raise BackendError(str(error)) from error
