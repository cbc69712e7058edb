"""iptables mode in one family: reads the tables, applies edits, isolates what the kernel refuses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from kpx.kernel.iptables.program import Iptables, IptablesError, Variant
from kpx.kernel.iptables.tables import parse
from kpx.kernel.iptables.watch import watch
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.iptables.compare import Comparison, cleanup_edit, concerns, keep_text
from kpx.proxier.iptables.edit import Edit
from kpx.proxier.iptables.render import NO_RULES, PortRules, render
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.iptables.skeleton import firewall_rule, skeleton_rules

logger = logging.getLogger(__name__)

# Above this many endpoints kube-proxy leaves the comments out of their rules.
LARGE_CLUSTER_ENDPOINTS = 1000
# The work of iptables-nft-restore grows with the square of its input. The legacy one's does not, and each of its runs
# takes the whole table from the kernel and puts it back.
_PORTS_PER_INPUT = {Variant.NFT: 250, Variant.LEGACY: 1 << 30}


class Change(NamedTuple):
    """What takes a service port to its frontends of now: an edit, and how many rules more that makes, by table."""

    now: Frontends | None
    edit: Edit
    growth: Counter[str]


Changes = dict[ServicePortName, Change]
Refused = dict[ServicePortName, str]
Chains = list[tuple[str, str]]  # table, chain


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
        self._watch = watch(iptables, concerns)
        self._foreign = ""
        # Whether others changed the tables since they were last read: then what fails need not be ours to answer for.
        self._disturbed = False

    def close(self) -> None:
        """Stop watching the tables; the rules stay."""
        self._watch.close()

    def service_cidrs(self, networks: tuple[str, ...]) -> bool:
        del networks  # kube-proxy's chains do not depend on them
        return False

    def drifted(self) -> str | None:
        self._note_foreign()
        foreign, self._foreign = self._foreign, ""
        return foreign or None

    def _note_foreign(self, own: int | None = None) -> None:
        try:
            changes = self._watch.changes(own)
        except OSError as error:
            raise BackendError(f"the rules cannot be watched: {error}") from error
        self._foreign = "; ".join(filter(None, (self._foreign, changes)))
        self._disturbed = self._disturbed or bool(changes)

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
        self._note_foreign()
        self._disturbed = False
        return Comparison(parse(self._iptables.save(), keep_text))

    def _sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Comparison:
        """Make the kernel match, whatever is there; raises `_Refusal` where it refuses service ports."""
        self._installed, self._endpoints = {}, 0
        self._owned, self._written = skeleton_rules(self._settings), Counter()
        comparison = self._read()
        self._apply(comparison.skeleton(self._settings))
        for ports in self._inputs(frontends):
            self._program({port: self._found(comparison, frontends[port]) for port in ports})
        self._apply(comparison.leftovers())
        return comparison

    def _culprits(
        self, ports: Collection[ServicePortName], frontends: Mapping[ServicePortName, Frontends], error: IptablesError
    ) -> Refused:
        """The service ports among these that the kernel refuses, and why.

        A refused input may have changed a table before the one that it was refused for, so that each try starts from
        what the kernel holds then.
        """
        if self._disturbed:
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

    def cleanup(self) -> None:
        try:
            kernel = parse(self._iptables.save(), keep_text)
            rule = firewall_rule(replace(self._settings, localhost_node_ports=True))
            if held := self._apply(cleanup_edit(kernel, rule)):
                raise BackendError(f"chains that rules of others lead to are empty, but still there: {_named(held)}")
        except IptablesError as error:
            raise BackendError(str(error)) from error

    def _inputs(self, ports: Iterable[ServicePortName]) -> Iterator[list[ServicePortName]]:
        """The service ports in parts that go into one restore input each. A service port is whole in its part."""
        rest = iter(ports)
        while some := list(islice(rest, _PORTS_PER_INPUT[self._iptables.variant])):
            yield some

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

    def _program(self, changes: Changes) -> None:
        """Make changes, in one input; raises `_Refusal` if the fault is in them, and not in the programs or tables."""
        try:
            self._restore(Edit.merged(change.edit for change in changes.values()))
        except IptablesError as error:
            if self._broken():
                raise
            raise _Refusal(changes, error) from error
        for port, change in changes.items():
            self._install(port, change)

    def _install(self, port: ServicePortName, change: Change) -> None:
        """Remember what is in the kernel now."""
        before = self._installed.pop(port, None)
        if change.now is not None:
            self._installed[port] = change.now
        self._endpoints += _endpoints(change.now) - _endpoints(before)
        self._owned.update(change.growth)

    def _broken(self) -> bool:
        """Whether even an input that changes nothing fails: the fault is then not in the rules."""
        try:
            self._iptables.restore(["*nat", "COMMIT"])
        except IptablesError:
            return True
        return False

    def _apply(self, edit: Edit) -> Chains:
        """Apply an edit that either adds lines or deletes chains; return those chains that rules of others hold."""
        try:
            self._restore(edit)
        except IptablesError:
            if not edit.deleted:
                raise
            self._restore(edit.sparing(edit.deleted))
            held = self._delete(edit.deleted)
            logger.warning("chains that rules of others lead to are empty, but still there: %s", _named(held))
            return held
        return []

    def _delete(self, chains: Chains) -> Chains:
        """Delete empty chains, as many as the kernel lets go; return the others."""
        edit = Edit()
        for chain in chains:
            edit.delete(*chain)
        try:
            self._restore(edit)
        except IptablesError:
            half = len(chains) // 2
            return self._delete(chains[:half]) + self._delete(chains[half:]) if half else chains
        return []

    def _restore(self, edit: Edit) -> None:
        if not edit:
            return
        self._note_foreign()
        try:
            process = self._iptables.restore(edit.lines())
        except IptablesError as error:
            self._note_foreign(own=error.process)
            raise
        self._note_foreign(own=process)
        for table in ("filter", "nat"):
            self._written[table] += edit.count(table)


def _named(chains: Chains) -> str:
    return ", ".join(f"{chain} ({table})" for table, chain in chains)


def _endpoints(frontends: Frontends | None) -> int:
    return len(frontends.endpoints) if frontends else 0
