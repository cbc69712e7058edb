"""ipvs mode in one family: virtual servers, our device, IP sets and a few rules, each changed where it differs."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from kpx.kernel.dummy import Dummy, NotADummy
from kpx.kernel.ipset import Change as SetChange
from kpx.kernel.ipset import Entry, Header, Ipsets, SetSpec, words
from kpx.kernel.iptables.program import Iptables, IptablesError
from kpx.kernel.ipvs.table import Ipvs
from kpx.kernel.ipvs.types import Virtual
from kpx.kernel.netlink import Refusal
from kpx.logs import v
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.iptables.edit import Edit as RulesEdit
from kpx.proxier.iptables.footprint import removal
from kpx.proxier.iptables.watched import WatchedTables, named
from kpx.proxier.ipvs.ledger import Change, Edit, Ledger
from kpx.proxier.ipvs.names import DEVICE, IpSet
from kpx.proxier.ipvs.remains import Remains
from kpx.proxier.ipvs.render import NO_STATE, Member, PortState, render
from kpx.proxier.ipvs.rules import FOOTPRINT, Comparison, between, built_in, compare, concerns
from kpx.proxier.ipvs.servers import Servers
from kpx.proxier.ipvs.settings import Settings
from kpx.proxier.ipvs.skeleton import Chains, chains
from kpx.proxier.phases import Phase, Phases

logger = logging.getLogger(__name__)

# Virtual servers that are looked at each time others' changes are asked for.
_SAMPLE = 16
# How often draining real servers are looked at, in seconds.
_DRAIN_SECONDS = 10.0
# Differences that are told one by one; a first sync has as many as there are virtual servers.
_NOTED = 20

Refused = dict[ServicePortName, str]


class IpvsBackend:
    """The `Backend` of ipvs mode.

    `refresh` is called before each full sync to renew what the settings say of the node.
    """

    def __init__(
        self,
        iptables: Iptables,
        settings: Settings,
        refresh: Callable[[Settings], Settings] = lambda settings: settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `IpvsUnavailable` or `IpsetUnavailable`."""
        self._settings = settings
        self._refresh = refresh
        self._clock = clock
        self._ipvs = Ipvs(counted=False)
        self._sets = Ipsets()
        self._device = Dummy(DEVICE, settings.family)
        self._tables = WatchedTables(iptables, concerns)
        self._servers = Servers(self._ipvs, settings.family, settings.excluded)
        self._ledger = Ledger()
        self._chains: Chains = {}
        self._installed: dict[ServicePortName, Frontends] = {}
        self._next_drain = 0.0
        self._phases = Phases()
        # Entries that a set does not take: it is full.
        self._lacking: Counter[IpSet] = Counter()

    def close(self) -> None:
        """Let go of the kernel; what is programmed stays."""
        for door in (self._ipvs, self._sets, self._device, self._tables):
            door.close()

    def service_cidrs(self, networks: tuple[str, ...]) -> bool:
        del networks  # nothing in this mode depends on them
        return False

    def phases(self) -> dict[Phase, float]:
        return self._phases.take()

    def tend(self) -> None:
        now = self._clock()
        if self._servers.draining and now >= self._next_drain:
            self._next_drain = now + _DRAIN_SECONDS
            with _translated():
                self._servers.settle()

    # Syncs.

    def sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Outcome:
        with _translated():
            self._settings = self._refresh(self._settings)
            self._ledger, self._installed = Ledger(), dict(frontends)
            self._ledger.change(Change(port, NO_STATE, self._state(one)) for port, one in frontends.items())
            self._lacking.clear()
            edit, rules, told = self._compared()
            refused = self._owners(self._apply(edit, rules.first))
            with self._phases.timed(Phase.WRITE):
                self._tables.edit([rules.last])
            if refused and (refused := self._refused_again()):
                self._leave_out(refused)
        return self._outcome(edit, RulesEdit.merged((rules.first, rules.last)), refused, told)

    def _refused_again(self) -> Refused:
        """What is still refused: others may have changed what was compared, before it was changed here."""
        self._lacking.clear()
        edit, rules, _ = self._compared()
        return self._owners(self._apply(edit, RulesEdit.merged((rules.first, rules.last))))

    def update(self, delta: Delta) -> Outcome:
        changes = [
            Change(port, self._state(self._installed.get(port)), self._state(now)) for port, now in delta.now.items()
        ]
        self._install(delta.now)
        with _translated():
            edit = self._ledger.change(changes)
            rules = self._changed_rules(edit)
            refused = self._apply(edit, rules)
        if refused:
            # Somebody else has changed what the edit stands on, or a service port is at fault: sync tells.
            v(2, logger, "virtual servers are compared anew: %s", next(iter(refused.values())))
            return self.sync(self._installed)
        return self._outcome(edit, rules)

    def _state(self, frontends: Frontends | None) -> PortState:
        return render(frontends, self._settings) if frontends else NO_STATE

    def _install(self, now: Mapping[ServicePortName, Frontends | None]) -> None:
        for port, frontends in now.items():
            self._installed.pop(port, None)
            if frontends is not None:
                self._installed[port] = frontends

    def _wanted_chains(self) -> Chains:
        return chains(self._settings, self._ledger.used, self._ledger.refusals)

    def _changed_rules(self, edit: Edit) -> RulesEdit:
        """What follows from an edit for the rules, which were all compared before."""
        return between(self._chains, self._wanted_chains()) if edit.rules else RulesEdit()

    def _leave_out(self, refused: Refused) -> None:
        """Take away what there is of service ports that the kernel refuses a part of."""
        edit = self._ledger.change(Change(port, self._state(self._installed[port]), NO_STATE) for port in refused)
        self._install(dict.fromkeys(refused))
        self._apply(edit, self._changed_rules(edit))

    def _owners(self, refused: Mapping[Virtual, str]) -> Refused:
        """The service ports that a refusal of their virtual servers concerns."""
        return {port: why for virtual, why in refused.items() if (port := self._ledger.owner(virtual))}

    def _compared(self) -> tuple[Edit, Comparison, list[str]]:
        """What differs in the kernel, and that in words; device and sets are made if they are not there."""
        family = self._settings.family
        with self._phases.timed(Phase.READ):
            told = [f"interface {DEVICE} was missing"] if self._device.create() else []
            edit = Edit(rules=True)
            headers = self._sets.headers()
            for one, wanted in self._ledger.members().items():
                held = self._entries(one.spec(family), headers, told)
                edit.entered += [member for member in wanted if member.entry not in held]
                edit.taken_out += [Member(one, entry) for entry in held if Member(one, entry) not in wanted]
            told += [f"entry {one.entry} was missing in set {one.set.in_family(family)}" for one in edit.entered]
            told += [f"entry {one.entry} was left over in set {one.set.in_family(family)}" for one in edit.taken_out]
            edit.servers, differences = self._servers.compare(self._ledger.servers)
            bound, addresses = self._device.addresses(), self._ledger.addresses
            edit.bound, edit.unbound = sorted(addresses - bound), sorted(bound - addresses)
            told += differences
            told += [f"address {one} was missing on {DEVICE}" for one in edit.bound]
            told += [f"address {one} was left over on {DEVICE}" for one in edit.unbound]
            rules = compare(self._tables.read(built_in), self._wanted_chains())
            return edit, rules, told + rules.differences

    def _entries(self, spec: SetSpec, headers: Mapping[str, Header], told: list[str]) -> set[Entry]:
        """The entries of one of our sets, which is made if it is not there, or replaced if it is of another type."""
        header = headers.get(spec.name)
        if header and header.fits(spec):
            return self._sets.entries(spec.name) or set()
        if header:
            told.append(f"set {spec.name} was of another type ({header.type})")
            self._sets.destroy(spec.name)
        else:
            told.append(f"set {spec.name} was missing")
        self._sets.create(spec)
        return set()

    def _apply(self, edit: Edit, rules: RulesEdit) -> dict[Virtual, str]:
        """Make the changes; return the virtual servers that the kernel refuses, and why.

        In an order in which every moment is safe: who is masqueraded or refused is settled before an address answers,
        and an endpoint goes after those that take its place have come.
        """
        with self._phases.timed(Phase.WRITE):
            self._change_sets(edit.filling, add=True)
            self._tables.edit([rules])
            if edit.rules:
                self._chains = self._wanted_chains()
            refused = self._servers.put(edit.servers)
            self._tell_refused(self._device.change(edit.bound, edit.unbound))
            refused |= self._servers.remove(edit.servers)
            self._change_sets(edit.emptying, add=False)
            return refused

    def _change_sets(self, members: list[Member], *, add: bool) -> None:
        family = self._settings.family
        changes = [SetChange(one.set.in_family(family), one.entry, add) for one in members]
        refused = self._sets.apply(changes)
        for at, refusal in refused.items():
            if refusal.code == errno.ENOENT:
                raise BackendError(f"the set {changes[at].set} is gone")
            # The Service works all the same, but for what the set is for.
            self._lacking[members[at].set] += add
            logger.error("set %s: entry %s: %s", changes[at].set, changes[at].entry, words(refusal.code))

    def _tell_refused(self, refused: Mapping[str, Refusal]) -> None:
        for address, refusal in refused.items():
            logger.error("address %s: %s does not take it: %s", address, DEVICE, os.strerror(refusal.code))

    def _outcome(
        self, edit: Edit, rules: RulesEdit, refused: Refused | None = None, told: Iterable[str] = ()
    ) -> Outcome:
        written = {"virtual servers": len(edit.servers), "rules": sum(map(rules.count, ("nat", "filter")))}
        owned = {"virtual servers": len(self._ledger.virtuals), "real servers": self._ledger.reals}
        noted = [*told]
        more = len(noted) - _NOTED
        repaired = (*noted[:_NOTED], f"and {more} more") if more > 0 else tuple(noted)
        return Outcome(written, owned, refused or {}, repaired, len(noted))

    # What others do.

    def drifted(self) -> str | None:
        with _translated():
            told = (
                self._tables.changed_by_others(),
                self._device.changed_by_others(),
                self._changed_sets(),
                self._servers.sample(self._ledger.virtuals, self._ledger.server, _SAMPLE),
            )
        return "; ".join(filter(None, told)) or None

    def _changed_sets(self) -> str | None:
        """The first of our sets that has another number of entries than it should have; nothing announces more."""
        headers = self._sets.headers()
        for one in IpSet:
            name = one.in_family(self._settings.family)
            held = headers[name].elements if name in headers else None
            if held != self._ledger.sizes[one] - self._lacking[one]:
                return f"set {name} is gone" if held is None else f"set {name} has {held} entries"
        return None

    def cleanup(self) -> None:
        with _translated():
            held = self._tables.remove(removal(self._tables.read(built_in), FOOTPRINT))
            if held:
                raise BackendError(f"chains that rules of others lead to are empty, but still there: {named(held)}")
            with Remains(self._settings.family) as remains:
                remains.remove()


@contextmanager
def _translated() -> Iterator[None]:
    """What goes wrong with the kernel, as the loop wants to hear it."""
    try:
        yield
    except (OSError, IptablesError, NotADummy) as error:
        raise BackendError(str(error)) from error
