"""The tables of one family as a backend works on them: read, edited, and watched for what others do meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from itertools import chain

from kpx.kernel.iptables.program import Iptables, IptablesError
from kpx.kernel.iptables.tables import Tables, parse
from kpx.kernel.iptables.watch import Concerns, watch
from kpx.proxier.backend import BackendError
from kpx.proxier.iptables.edit import Edit

logger = logging.getLogger(__name__)

Chains = list[tuple[str, str]]  # table, chain


def named(chains: Chains) -> str:
    """Chains, in words."""
    return ", ".join(f"{chain} ({table})" for table, chain in chains)


class WatchedTables:
    """Reads and edits tables, and keeps apart what others changed. `concerns` says which chains matter.

    ``disturbed`` says whether others changed the tables since they were last read: what fails then need not be ours
    to answer for.
    """

    def __init__(self, iptables: Iptables, concerns: Concerns) -> None:
        self._iptables = iptables
        self._watch = watch(iptables, concerns)
        self._foreign = ""
        self.disturbed = False

    def close(self) -> None:
        """Stop watching; the rules stay."""
        self._watch.close()

    def changed_by_others(self) -> str | None:
        """What others changed since the last call, in words, or None. Raises `BackendError`."""
        self._note()
        foreign, self._foreign = self._foreign, ""
        return foreign or None

    def read(self, keep: Callable[[str], bool]) -> Tables:
        """All tables; the text of rules is kept for the chains that `keep` accepts. Raises `IptablesError`."""
        self._note()
        self.disturbed = False
        return parse(self._iptables.save(), keep)

    def edit(self, edits: Iterable[Edit]) -> None:
        """Make edits in one input, if there is anything in them; each is taken when those before it are written.

        Raises `IptablesError`.
        """
        lines = Edit.restore_input(edits)
        first = next(lines, None)
        if first is None:
            return
        self._note()
        try:
            process = self._iptables.restore(chain([first], lines))
        except IptablesError as error:
            self._note(own=error.process)
            raise
        self._note(own=process)

    def remove(self, edit: Edit) -> Chains:
        """Make an edit that may delete chains; return those that rules of others hold, empty then.

        Raises `IptablesError`.
        """
        try:
            self.edit([edit])
        except IptablesError:
            if not edit.deleted:
                raise
            self.edit([edit.sparing(edit.deleted)])
            held = self._delete(edit.deleted)
            if held:
                logger.warning("chains that rules of others lead to are empty, but still there: %s", named(held))
            return held
        return []

    def _delete(self, chains: Chains) -> Chains:
        """Delete empty chains, as many as the kernel lets go; return the others."""
        edit = Edit()
        for one in chains:
            edit.delete(*one)
        try:
            self.edit([edit])
        except IptablesError:
            half = len(chains) // 2
            return self._delete(chains[:half]) + self._delete(chains[half:]) if half else chains
        return []

    def _note(self, own: int | None = None) -> None:
        try:
            changes = self._watch.changes(own)
        except OSError as error:
            raise BackendError(f"the rules cannot be watched: {error}") from error
        self._foreign = "; ".join(filter(None, (self._foreign, changes)))
        self.disturbed = self.disturbed or bool(changes)
