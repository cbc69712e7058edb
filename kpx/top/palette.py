"""The command palette: what the keys of the current screen do, by name."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

from textual.command import DiscoveryHit, Hit, Hits, Provider


class KeysProvider(Provider):
    """All that a key does on the screen beneath."""

    async def discover(self) -> Hits:
        for told, more, run in self._actions():
            yield DiscoveryHit(told, run, help=more or None)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for told, more, run in self._actions():
            if (score := matcher.match(told)) > 0:
                yield Hit(score, matcher.highlight(told), run, help=more or None)

    def _actions(self) -> Iterator[tuple[str, str, partial[Coroutine[Any, Any, bool]]]]:
        seen: set[str] = set()
        for active in self.screen.active_bindings.values():
            told = active.binding.description
            if told and active.enabled and told not in seen and active.binding.action != "command_palette":
                seen.add(told)
                run = partial(self.app.run_action, active.binding.action, active.node)
                yield told, active.tooltip, run
