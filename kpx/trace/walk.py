"""The walk through the chains of one hook: every way that a packet can take. Pure.

Packets that differ in nothing go on as one, so that a rule which cannot be judged and changes nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from kpx.trace.outcome import Assumption, Base, Condition, Hook, Outcome, Rule, Rules, Verb
from kpx.trace.packet import Packet
from kpx.trace.reasons import reason
from kpx.trace.result import Hop, Result, Verdict

_DEEPEST = 32
_MOST_WAYS = 4096
# Of chains up to this size that end without a match, some of the fields that did not match are told.
_FEW_RULES, _FEW_FIELDS = 8, 3
# A chain that a packet was sent to for its destination, in iptables and in nftables, is worth a word then.
_NAMES_DESTINATION = ("-d ", " daddr ")


@dataclass(frozen=True, slots=True)
class Trail:
    """The hops behind a packet, the last one first: what ways have in common they share."""

    hop: Hop
    before: Trail | None

    @staticmethod
    def hops(last: Trail | None) -> tuple[Hop, ...]:
        """In the order of the path."""
        found = []
        while last:
            found.append(last.hop)
            last = last.before
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Way:
    """A packet on one of its ways."""

    packet: Packet
    share: float | None = 1.0
    assumes: tuple[Assumption, ...] = ()
    trail: Trail | None = None

    def passing(self, hop: Hop) -> Way:
        return replace(self, trail=Trail(hop, self.trail))


@dataclass(frozen=True, slots=True)
class Ended:
    """A way that ended in a hook."""

    way: Way
    verdict: Verdict
    reason: str
    hook: Hook | None = None


class _End(Enum):
    """How a chain was left."""

    PASSED = "passed"  # at its end, or by return
    ACCEPTED = "accepted"


_GOES_ON = {Verb.NEXT: None, Verb.RETURN: _End.PASSED, Verb.ACCEPT: _End.ACCEPTED}
_ENDS = {Verb.DROP: Verdict.DROPPED, Verb.REJECT: Verdict.REJECTED}


class HookWalk:
    """The walk through base chains. ``ended`` are the ways that ended in one.

    ``remembers`` is set where a rule asked what the client did before.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.ended: list[Ended] = []
        self.remembers = False

    def base(self, base: Base, ways: Iterable[Way]) -> list[Way]:
        """The ways that go on behind a base chain."""
        passing: list[Way] = []
        for way in ways:
            for end, left in self._chain(base, base.chain, way, 0):
                if end is _End.PASSED and not base.accepts:
                    hop = Hop(base.hook.value, base.table, base.chain, "", Result.POLICY, "policy drop")
                    self._end(left.passing(hop), Verdict.DROPPED, base, base.chain, None)
                else:
                    passing.append(left)
        return merged(passing)

    def _chain(self, base: Base, name: str, way: Way, depth: int) -> Iterator[tuple[_End, Way]]:
        if depth > _DEEPEST:
            self._stop(way, base, f"chain {name} is nested too deep to follow")
            return
        rules = self._rules.chain(base, name)
        ways = [way]
        for rule in rules:
            followed = [each for one in ways for each in self._rule(base, name, rule, one, depth)]
            ways = merged([left for end, left in followed if end is None])
            yield from ((end, left) for end, left in followed if end is not None)
            if not ways:
                return
            if len(ways) > _MOST_WAYS:
                for one in ways:
                    self._stop(one, base, "the rules branch too often to follow")
                return
        for one in ways:
            yield _End.PASSED, self._at_end(base, name, rules, one, way.trail) if depth else one

    def _rule(self, base: Base, name: str, rule: Rule, way: Way, depth: int) -> Iterator[tuple[_End | None, Way]]:
        """The ways on from a rule: None for those to the next rule of its chain."""
        for outcome in rule.outcomes(way.packet):
            left = _after(way, base, name, rule, outcome)
            if outcome.assumes is not None and outcome.assumes.condition is Condition.HISTORY:
                self.remembers = True
            if outcome.verb in _GOES_ON:
                yield _GOES_ON[outcome.verb], left
            elif outcome.verb in _ENDS:
                self._end(left, _ENDS[outcome.verb], base, name, rule)
            elif outcome.verb is Verb.STOP:
                self._stop(left, base, outcome.note)
            else:
                called = outcome.verb is Verb.JUMP
                for end, one in self._chain(base, outcome.chain, left, depth + 1):
                    yield (None if called and end is _End.PASSED else end), one

    def _end(self, way: Way, verdict: Verdict, base: Base, chain: str, rule: Rule | None) -> None:
        self.ended.append(Ended(way, verdict, reason(verdict, base, chain, rule.text if rule else ""), base.hook))

    def _stop(self, way: Way, base: Base, why: str) -> None:
        self.ended.append(Ended(way, Verdict.UNDECIDED, why, base.hook))

    def _at_end(self, base: Base, name: str, rules: Sequence[Rule], way: Way, entry: Trail | None) -> Way:
        """A note that none of a chain's rules did anything, where that is so."""
        last = way.trail
        while last is not entry and last is not None:
            if last.hop.chain == name and last.hop.result is not Result.MISSED and last.hop.note:
                return way
            last = last.before
        if not rules:
            return way
        note = f"none of its {len(rules)} rules led anywhere" if len(rules) > 1 else "its rule did not match"
        if len(rules) <= _FEW_RULES:
            missed = [outcomes[0].note for rule in rules if not (outcomes := rule.outcomes(way.packet))[0].matched]
            fields = list(dict.fromkeys(filter(None, missed)))
            note = f"{note}: {'; '.join(fields[:_FEW_FIELDS])}" if fields else note
        telling = entry is not None and any(word in entry.hop.rule for word in _NAMES_DESTINATION)
        return way.passing(Hop(base.hook.value, base.table, name, "", Result.MISSED, note, telling=telling))


def _after(way: Way, base: Base, name: str, rule: Rule, outcome: Outcome) -> Way:
    """A way behind a rule, with a hop for the rule if that is worth one."""
    trail = way.trail
    if outcome.matched or outcome.near or outcome.assumes:
        unknown = outcome.assumes is not None and outcome.assumes.condition is Condition.UNKNOWN
        result = Result.UNKNOWN if unknown else Result.MATCHED if outcome.matched else Result.MISSED
        telling = outcome.effective or outcome.near or outcome.assumes is not None
        trail = Trail(
            Hop(base.hook.value, base.table, name, rule.text, result, outcome.note, rule.packets, telling), trail
        )
    share = None if way.share is None or outcome.share is None else way.share * outcome.share
    assumes = way.assumes
    if outcome.assumes is not None and outcome.matched:
        assumes = (*assumes, outcome.assumes)
    return Way(outcome.packet, share, assumes, trail)


def merged(ways: Sequence[Way]) -> list[Way]:
    """The ways, those whose packets are alike as one: shares add up, and an assumption that changes nothing goes."""
    if len(ways) < 2:
        return list(ways)
    alike: dict[Packet, list[Way]] = {}
    for way in ways:
        kept = alike.setdefault(way.packet, [])
        for at, other in enumerate(kept):
            if other.assumes == way.assumes:
                total = None if other.share is None or way.share is None else other.share + way.share
                kept[at] = replace(other, share=total)
                break
            if _weaker(other, way):
                break
            if _weaker(way, other):
                kept[at] = way
                break
        else:
            kept.append(way)
    return [way for kept in alike.values() for way in kept]


def _weaker(one: Way, other: Way) -> bool:
    """Whether a way assumes less than another that is alike in all else."""
    return set(one.assumes) < set(other.assumes)
