"""iptables mode in one family: reads the tables, applies edits, isolates what the kernel refuses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from kpx.kernel.iptables.program import Iptables, IptablesError, Variant
from kpx.kernel.iptables.tables import parse
from kpx.kernel.iptables.watch import watch
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.iptables.compare import Comparison, cleanup_edit, is_ours, keep_text, skeleton_edit
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

Edits = dict[ServicePortName, Edit]
Refused = dict[ServicePortName, str]
Chains = list[tuple[str, str]]  # table, chain


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
        self._watch = watch(iptables, is_ours)
        self._foreign = ""

    def close(self) -> None:
        """Stop watching the tables; the rules stay."""
        self._watch.close()

    def drifted(self) -> str | None:
        self._note_foreign()
        foreign, self._foreign = self._foreign, ""
        return foreign or None

    def _note_foreign(self) -> None:
        try:
            changes = self._watch.changes()
        except OSError as error:
            raise BackendError(f"the rules cannot be watched: {error}") from error
        self._foreign = "; ".join(filter(None, (self._foreign, changes)))

    def sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Outcome:
        large = sum(len(one.endpoints) for one in frontends.values()) > LARGE_CLUSTER_ENDPOINTS
        self._settings = replace(self._refresh(self._settings), comments=not large)
        self._installed, self._endpoints = {}, 0
        self._owned, self._written = skeleton_rules(self._settings), Counter()
        try:
            kernel = parse(self._iptables.save(), keep_text)
            self._apply(skeleton_edit(kernel, self._settings))
            comparison = Comparison(kernel)
            refused: Refused = {}
            for ports in self._inputs(frontends):
                edits = {port: comparison.port(render(frontends[port], self._settings)) for port in ports}
                refused |= self._apply_each(edits)
                self._install({port: frontends[port] for port in ports if port not in refused})
            self._apply(comparison.leftovers())
        except IptablesError as error:
            raise BackendError(str(error)) from error
        return Outcome(dict(self._written), dict(self._owned), refused, comparison.differences)

    def update(self, delta: Delta) -> Outcome:
        endpoints = self._endpoints + sum(
            _endpoints(now) - _endpoints(self._installed.get(port)) for port, now in delta.now.items()
        )
        if self._settings.comments is (endpoints > LARGE_CLUSTER_ENDPOINTS):
            after = {**self._installed, **delta.now}
            return self.sync({port: one for port, one in after.items() if one is not None})
        self._written = Counter()
        refused: Refused = {}
        try:
            for ports in self._inputs(delta.now):
                edits = {port: self._edit(port, delta.now[port]) for port in ports}
                refused |= self._apply_each(edits)
                self._install({port: delta.now[port] for port in ports if port not in refused})
        except IptablesError as error:
            raise BackendError(str(error)) from error
        return Outcome(dict(self._written), dict(self._owned), refused)

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

    def _edit(self, port: ServicePortName, now: Frontends | None) -> Edit:
        return Edit.between(self._rules(self._installed.get(port)), self._rules(now))

    def _install(self, ports: Mapping[ServicePortName, Frontends | None]) -> None:
        """Remember what is in the kernel now."""
        for port, now in ports.items():
            before = self._installed.pop(port, None)
            if now is not None:
                self._installed[port] = now
            self._endpoints += _endpoints(now) - _endpoints(before)
            self._owned.update(self._rules(now).counts())
            self._owned.subtract(self._rules(before).counts())

    def _apply_each(self, edits: Edits) -> Refused:
        """Apply the edits of service ports, in one input if that works; return those that the kernel refuses."""
        try:
            self._apply(Edit.merged(edits.values()))
        except IptablesError as error:
            if len(edits) == 1 and not self._broken():
                return {port: str(error) for port in edits}
            if self._broken():
                raise
            parts = list(edits.items())
            half = len(parts) // 2
            return self._apply_each(dict(parts[:half])) | self._apply_each(dict(parts[half:]))
        return {}

    def _broken(self) -> bool:
        """Whether even an input that changes nothing fails: the fault is then not in the rules."""
        try:
            self._iptables.restore(["*nat", "COMMIT"])
        except IptablesError:
            return True
        return False

    def _apply(self, edit: Edit) -> Chains:
        """Apply an edit; return the chains of it that cannot be deleted, as rules of others lead to them."""
        if not edit:
            return []
        held: Chains = []
        try:
            self._restore(edit)
        except IptablesError:
            if not edit.deleted:
                raise
            self._restore(edit.sparing(edit.deleted))
            held = self._delete(edit.deleted)
            logger.warning("chains that rules of others lead to are empty, but still there: %s", _named(held))
        for table in ("filter", "nat"):
            self._written[table] += edit.count(table)
        return held

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
        self._note_foreign()
        self._iptables.restore(edit.lines())
        self._watch.settle()


def _named(chains: Chains) -> str:
    return ", ".join(f"{chain} ({table})" for table, chain in chains)


def _endpoints(frontends: Frontends | None) -> int:
    return len(frontends.endpoints) if frontends else 0
