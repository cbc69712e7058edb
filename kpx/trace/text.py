"""A trace, and what is beside it, as text of at most so many columns, with colour where it is wanted. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kpx.net import join_port
from kpx.tools.services import aligned
from kpx.trace.answer import Answer, state
from kpx.trace.result import Branch, Ending, Hop, Result, Trace, Verdict

_COLOURS = {"good": "32", "bad": "31", "doubt": "33", "faint": "2", "strong": "1"}
_VERDICTS = {
    Verdict.SENT: "good",
    Verdict.DELIVERED: "good",
    Verdict.REJECTED: "bad",
    Verdict.DROPPED: "bad",
    Verdict.UNDECIDED: "doubt",
}
SIGNS = {Result.MATCHED: "+", Result.MISSED: "-", Result.UNKNOWN: "?", Result.POLICY: "=", Result.ROUTED: ">"}
_COMMENT = re.compile(r' ?(-m comment --comment|comment) (?:"(?:[^"\\]|\\.)*"|\S+)')
_MOST_BRANCHES = 10
_ASTRAY = ", where it came in, with its sender's address: unless the network sees to it, the answer passes this node by"
_FIXED_SPACE = "\xa0"  # where no line may end


@dataclass(frozen=True, slots=True)
class Style:
    """How wide the text may be, whether it has colour, and whether every hop is shown or only those that tell."""

    columns: int = 80
    colour: bool = False
    every_hop: bool = False

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour else text


def render(trace: Trace, style: Style) -> str:
    """The whole trace."""
    return "\n".join([*_head(trace, style), "", *_paths(trace, style), "", *_summary(trace, style)])


def answer_text(answer: Answer, style: Style) -> str:
    """The trace, and what is beside it."""
    parts = [render(answer.trace, style), *_endpoints(answer), *_flows(answer), *_differences(answer, style)]
    return "\n".join(parts)


def _endpoints(answer: Answer) -> Iterator[str]:
    if answer.question.wanted is None or not answer.endpoints:
        return
    shares = answer.shares
    cells = []
    for one in answer.endpoints:
        share = shares.get(str(one), 0.0)
        part = "not known" if share is None else f"{share:.1%}" if str(one) in shares else "none"
        cells.append(["  " + str(one), state(one), part])
    yield f"\nendpoints, and the part of new connections that each gets\n{aligned(cells)}"


def _flows(answer: Answer) -> Iterator[str]:
    flows = answer.flows
    if flows.count:
        some = "" if flows.complete else " at least; the table was not read to its end"
        more = f", the first {len(flows.shown)}:" if flows.count > len(flows.shown) else ""
        yield f"\nflows in conntrack: {flows.count}{some}{more}"
        yield from (f"  {one}" for one in flows.shown)


def _differences(answer: Answer, style: Style) -> Iterator[str]:
    if answer.differences is None:
        return
    yield ""
    if not answer.differences:
        yield style.paint("all this is as the cluster wants it", "good")
        return
    yield style.paint("not as the cluster wants it", "bad")
    for one in answer.differences:
        yield from wrapped(one.text, style, "  ! ", "    ")


def _head(trace: Trace, style: Style) -> Iterator[str]:
    target, sender = trace.target, trace.sender
    where = f"{target.protocol} {join_port(trace.destination, target.port)}"
    name = f" ({target.name})" if target.name else ""
    yield style.paint(f"{where}{name}", "strong")
    by = f", in by {sender.interface}" if sender.interface else ""
    note = f" ({sender.note})" if sender.note else ""
    yield from wrapped(f"from {sender.kind} {sender.address}{by}{note}", style, "  ")
    yield from wrapped(f"rules of Services: {', '.join(trace.proxies)}", style, "  ")


def hop_lines(hops: Iterable[Hop], style: Style, place: str = "") -> Iterator[str]:
    """The hops that are shown, each place's name before the first; `place` is the one of the hop before."""
    for hop in _shown(hops, style):
        yield from _hop(hop, place, style)
        place = _place(hop)


def _paths(trace: Trace, style: Style) -> Iterator[str]:
    yield from hop_lines(trace.hops, style)
    common = _shown(trace.hops, style)
    place = _place(common[-1]) if common else ""
    branches = trace.branches
    several = len(branches) > 1
    for branch in branches[:_MOST_BRANCHES] if not style.every_hop else branches:
        if several:
            yield ""
            for line in wrapped(f"{share_words(branch)}: {short_ending(branch.ending)}", style, "", "  "):
                yield style.paint(line, "strong")
        yield from hop_lines(branch.hops, style, place)
        yield from _ending(branch.ending, style)
    left = len(branches) - _MOST_BRANCHES
    if left > 0 and not style.every_hop:
        yield ""
        yield from wrapped(f"... and {left} more ways like these (--all shows every one)", style, "", "  ")


def _shown(hops: Iterable[Hop], style: Style) -> list[Hop]:
    return [hop for hop in hops if hop.telling or style.every_hop]


def _place(hop: Hop) -> str:
    return " ".join(filter(None, (hop.hook, hop.table, hop.chain)))


def _hop(hop: Hop, before: str, style: Style) -> Iterator[str]:
    if _place(hop) != before:
        yield style.paint(_place(hop), "faint")
    rule, note = plain_rule(hop.rule), news(hop)
    counted = f" [{hop.packets}{_FIXED_SPACE}packets]" if hop.packets is not None else ""
    if hop.result is Result.ROUTED:
        rule, note = f"{rule}: {note}", ""
    colour = {Result.MISSED: "faint", Result.UNKNOWN: "doubt"}.get(hop.result, "")
    for line in wrapped(f"{rule}{counted}" if rule else note, style, f"  {SIGNS[hop.result]} ", "      "):
        yield style.paint(line, colour) if colour else line
    if rule and note:
        yield from wrapped(note, style, "      -> ", "         ")


def news(hop: Hop) -> str:
    """The note of a hop, but for what its rule says itself."""
    said, rule = hop.note.rpartition(", ")[2], hop.rule.lower()
    last = f" {rule}".rpartition(" -j ")[2].split(" ")[0] if " -j " in f" {rule}" else rule
    if hop.result is not Result.MATCHED or not (said.lower() == rule or said.lower().split(" ")[-1] == last):
        return hop.note
    return hop.note.rpartition(", ")[0]


def plain_rule(rule: str) -> str:
    """A rule without its comment."""
    return _COMMENT.sub("", rule).strip()


def _ending(ending: Ending, style: Style) -> Iterator[str]:
    text = f"{ending.verdict.value.upper()}: {ending_words(ending)}"
    for line in wrapped(text, style, "=> ", "   "):
        yield style.paint(line, _VERDICTS[ending.verdict])


def ending_words(ending: Ending) -> str:
    """Where the packet goes at last and as whom, or why it does not."""
    if ending.verdict not in (Verdict.SENT, Verdict.DELIVERED):
        return ending.reason
    to = join_port(ending.destination, ending.port)
    untranslated = "" if ending.translated else ", and no rule has translated it"
    source = ending.source or "an address that is not known"
    seen = f"masqueraded, it comes from {source}" if ending.masqueraded else f"it comes from {source}"
    return f"to {to}; {seen}; {ending.reason}{untranslated}{_ASTRAY if ending.astray else ''}"


def short_ending(ending: Ending) -> str:
    """Where the packet goes at last, or the verdict."""
    if ending.verdict in (Verdict.SENT, Verdict.DELIVERED):
        return join_port(ending.destination, ending.port)
    return str(ending.verdict.value)


def share_words(branch: Branch) -> str:
    """Which part of all packets takes a branch."""
    if branch.unknown:
        return "if a rule matches that is not evaluated"
    if branch.remembered:
        return "clients that were there before"
    return "some" if branch.share is None else f"{branch.share:.1%}"


def _summary(trace: Trace, style: Style) -> Iterator[str]:
    verdicts = list(dict.fromkeys(branch.ending.verdict.value for branch in trace.branches))
    backends = {
        join_port(branch.ending.destination, branch.ending.port)
        for branch in trace.branches
        if branch.ending.translated and branch.ending.verdict in (Verdict.SENT, Verdict.DELIVERED)
    }
    reached = f", {len(backends)} backend{'s' if len(backends) > 1 else ''}" if backends else ""
    yield f"{' or '.join(verdicts)}{reached}"
    if trace.affinity:
        yield from wrapped("session affinity: a client goes where it went before", style, "", "  ")
    if not trace.certain:
        for line in wrapped("not certain: some rules are not evaluated, see '?' above", style, "", "  "):
            yield style.paint(line, "doubt")
    for note in trace.notes:
        yield from wrapped(note, style, "")


def wrapped(text: str, style: Style, first: str, following: str | None = None) -> Iterator[str]:
    """Text in lines that are not too long; `first` begins the first line, `following` the others."""
    more = first if following is None else following
    lines = textwrap.wrap(
        text, style.columns, initial_indent=first, subsequent_indent=more, break_on_hyphens=False
    ) or [first.rstrip()]
    yield from (line.replace(_FIXED_SPACE, " ") for line in lines)
