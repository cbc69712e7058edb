"""Whether a match of a rule holds for a packet: yes, no, by chance, by what the client did before, or not evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from kpx.trace.outcome import Assumption, Condition, Outcome, Verb
from kpx.trace.packet import Packet


class Answer(Enum):
    """What is known of a match."""

    YES = "yes"
    NO = "no"
    CHANCE = "chance"
    HISTORY = "history"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer, in the words of the field that decides it. ``specific`` fields tell one Service from the others."""

    answer: Answer
    field: str = ""
    share: float = 1.0
    specific: bool = False


YES = Judgement(Answer.YES)


def told(holds: bool, field: str, *, specific: bool = False) -> Judgement:
    """A match that can be judged."""
    return Judgement(Answer.YES if holds else Answer.NO, field, specific=specific)


def unknown(what: str) -> Judgement:
    """A match that cannot."""
    return Judgement(Answer.UNKNOWN, what)


def outcomes(packet: Packet, judged: Iterable[Judgement], then: Outcome) -> Sequence[Outcome]:
    """What a rule with such matches does, if `then` is what it does where it matches."""
    judgements = tuple(judged)
    missed = [one for one in judgements if one.answer is Answer.NO]
    if missed:
        near = len(missed) == 1 and any(one.specific for one in judgements if one is not missed[0])
        return (Outcome(Verb.NEXT, packet, matched=False, note=missed[0].field, near=near),)
    share = 1.0
    for one in judgements:
        share *= one.share if one.answer is Answer.CHANCE else 1.0
    found: list[Outcome] = []
    if share < 1.0:
        found.append(Outcome(Verb.NEXT, packet, matched=False, share=1.0 - share))
    doubts = [one for one in judgements if one.answer in (Answer.HISTORY, Answer.UNKNOWN)]
    if not doubts:
        return (replace(then, share=share if then.share is not None else None), *found)
    condition = Condition.UNKNOWN if any(one.answer is Answer.UNKNOWN for one in doubts) else Condition.HISTORY
    text = ", ".join(one.field for one in doubts)
    assumption = Assumption(condition, text)
    word = "not evaluated" if condition is Condition.UNKNOWN else "depends on the client's history"
    main = Outcome(Verb.NEXT, packet, matched=False, note=f"{word}: {text}", assumes=assumption)
    if condition is Condition.HISTORY:
        main = replace(main, assumes=None)
    note = f"if it matches: {then.note}" if then.note else "if it matches"
    return (main, replace(then, note=note, assumes=assumption), *found)
