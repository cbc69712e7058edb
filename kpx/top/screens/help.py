"""The keys of the screen that one came from, made from its bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.binding import ActiveBinding

from kpx.top.lines import Line, Span, line
from kpx.top.screens.view import TextView
from kpx.top.snapshot import Snapshot

_NAMES = {
    "slash": "/",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "question_mark": "?",
    "colon": ":",
    "plus": "+",
    "minus": "-",
    "pageup": "page up",
    "pagedown": "page down",
}
# What Textual itself binds.
_NOT_OURS = ("tab", "shift+tab", "ctrl+q", "super+c")
_ABOUT = (
    "A filter is a regular expression and searches names, addresses, ports and endpoints;",
    "with ! before it, it shows what does not match. CONN/S counts new connections: the",
    "kernel counts a flow's first packet. FLOWS are those that conntrack has now.",
)


class HelpView(TextView):
    """What every key does."""

    PAGE = "help"
    crumb = "help"

    def __init__(self, keys: Mapping[str, ActiveBinding]) -> None:
        super().__init__()
        self._keys_of_screen = keys

    def lines(self, found: Snapshot, width: int) -> Sequence[Line]:
        lines = [
            line(Span(f"{name:<18}", "title"), told, Span(f"  {more}" if more else "", "faint"))
            for name, told, more in keys(self._keys_of_screen)
        ]
        return [*lines, (), *(line(Span(text, "faint")) for text in _ABOUT)]


def keys(active: Mapping[str, ActiveBinding]) -> list[tuple[str, str, str]]:
    """The keys of each binding, what it does, and more on that."""
    found: dict[str, tuple[list[str], str, str]] = {}
    for key, one in active.items():
        told = one.binding.description
        if one.enabled and told and key not in _NOT_OURS:
            found.setdefault(one.binding.action, ([], told, one.tooltip))[0].append(_NAMES.get(key, key))
    return [(" ".join(names), told, more) for names, told, more in found.values()]
