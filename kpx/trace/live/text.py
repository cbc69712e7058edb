"""A flow as text. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from kpx.trace.live.flow import Flow, Outcome
from kpx.trace.text import Style, hop_lines, wrapped

_COLOURS = {Outcome.ANSWERED: "good", Outcome.UNANSWERED: "doubt", Outcome.LOST: "doubt"}


def render(flow: Flow, style: Style) -> str:
    """One block: who sent it where, the rules that mattered, and what became of it."""
    return "\n".join(
        [*_head(flow, style), *hop_lines(flow.hops, style), *_back(flow, style), *_ending(flow, style), ""]
    )


def _head(flow: Flow, style: Style) -> Iterator[str]:
    ends = [flow.client, flow.target, *([flow.backend] if flow.backend and flow.translated else [])]
    name = f" ({flow.name})" if flow.name else ""
    for line in wrapped(f"{flow.protocol} {' -> '.join(map(str, ends))}{name}", style, "", "  "):
        yield style.paint(line, "strong")
    clock = time.strftime("%H:%M:%S", time.localtime(flow.at)) + f".{int(flow.at % 1 * 1000):03}"
    by = f"in by {flow.incoming}" if flow.incoming else "sent by this node"
    again = f", sent {flow.packets} times" if flow.packets > 1 else ""
    yield from wrapped(f"{clock}, {by}{again}", style, "  ")


def _back(flow: Flow, style: Style) -> Iterator[str]:
    """The way of the answer, where it was lost."""
    if flow.outcome is Outcome.ANSWER_LOST and flow.answer_hops:
        yield style.paint("its answer:", "strong")
        yield from hop_lines(flow.answer_hops, style)


def _ending(flow: Flow, style: Style) -> Iterator[str]:
    told = "; ".join(filter(None, (_reached(flow), flow.reason)))
    for line in wrapped(f"{flow.outcome.value.upper()}{': ' if told else ''}{told}", style, "=> ", "   "):
        yield style.paint(line, _COLOURS.get(flow.outcome, "bad"))


def _reached(flow: Flow) -> str:
    if flow.backend is None:
        return ""
    untranslated = "" if flow.translated else ", and no rule has translated it"
    if flow.masqueraded:
        return f"{flow.backend} sees it come from {flow.source} (masqueraded){untranslated}"
    return f"{flow.backend} sees it come from {flow.source}{untranslated}"


def summary(outcomes: Counter[Outcome], lost: int) -> str:
    """A line at the end: how many flows, and what became of them."""
    number = sum(outcomes.values())
    told = ", ".join(f"{count} {outcome.value}" for outcome, count in outcomes.most_common())
    gaps = f"; the kernel's reports came too fast {lost} times, and some were lost" if lost else ""
    return f"{number} flow{'' if number == 1 else 's'}{': ' if told else ''}{told}{gaps}"
