"""What a rule that a packet has met did with it, as far as its text says. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from kpx.trace.iptables_rules import leads
from kpx.trace.iptables_text import Parsed, parse
from kpx.trace.outcome import Base
from kpx.trace.reasons import reason
from kpx.trace.result import Hop, Result, Verdict


class Effect(Enum):
    """What a rule is for. Where it translates to, only conntrack tells."""

    NONE = ""
    ACCEPT = "accept"
    MARK = "mark"
    DESTINATION = "dnat"
    SOURCE = "snat"
    DROP = "drop"
    REJECT = "reject"


_TARGETS = {
    "ACCEPT": Effect.ACCEPT,
    "MARK": Effect.MARK,
    "DNAT": Effect.DESTINATION,
    "REDIRECT": Effect.DESTINATION,
    "SNAT": Effect.SOURCE,
    "MASQUERADE": Effect.SOURCE,
    "DROP": Effect.DROP,
    "REJECT": Effect.REJECT,
}
# In nft's words; the first that is found counts. (``ct status dnat`` is a match.)
_STATEMENTS = (
    (re.compile(r"\b(dnat (ip6? )?to|redirect)\b"), Effect.DESTINATION),
    (re.compile(r"\b(snat (ip6? )?to|masquerade)\b"), Effect.SOURCE),
    (re.compile(r"\breject\b"), Effect.REJECT),
    (re.compile(r"\bmeta mark set\b"), Effect.MARK),
)
_COMMENT = re.compile(r'comment (?:"(?:[^"\\]|\\.)*"|\S+)')
_VERDICTS = {"drop": Effect.DROP, "accept": Effect.ACCEPT}
_ENDS = {Effect.DROP: Verdict.DROPPED, Effect.REJECT: Verdict.REJECTED}


@dataclass(frozen=True, slots=True)
class Met:
    """A rule or policy that a packet has met, in the order of hooks and priorities.

    ``mark`` is the packet's when it was reported. ``ends`` is set where its way ends there, ``reason`` says why.
    """

    hop: Hop
    base: Base
    effect: Effect = Effect.NONE
    mark: int = 0
    ends: Verdict | None = None
    reason: str = ""

    @property
    def end(self) -> str:
        """Where its way ends there, in words: ``dropped: by ...``."""
        return f"{self.ends.value}: {self.reason}" if self.ends else ""


def met_rule(base: Base, chain: str, text: str, verdict: str = "", mark: int = 0) -> Met:
    """A rule, by its text. ``verdict`` is nft's word for how it ended; legacy tables do not report it."""
    # Rules of nftables that somebody put among those of iptables are in nft's language.
    of_iptables = parse(text) if base.kind != "nftables" and text[:1] in ("-", "!") else None
    effect, led = (_of_iptables(of_iptables), leads(of_iptables)) if of_iptables else (_of_nft(text, verdict), "")
    if verdict.startswith(("jump ", "goto ")):
        led = verdict
    note = led or (effect.value if effect in (Effect.ACCEPT, *_ENDS) else "")
    hop = Hop(base.hook.value, base.table, chain, text, Result.MATCHED, note, telling=effect is not Effect.NONE)
    ends = _ENDS.get(effect)
    return Met(hop, base, effect, mark, ends, reason(ends, base, chain, text) if ends else "")


def met_policy(base: Base, *, accepts: bool, mark: int = 0) -> Met:
    """The policy of a base chain."""
    note = "policy accept" if accepts else "policy drop"
    hop = Hop(base.hook.value, base.table, base.chain, "", Result.POLICY, note, telling=not accepts)
    if accepts:
        return Met(hop, base, mark=mark)
    return Met(hop, base, Effect.DROP, mark, Verdict.DROPPED, reason(Verdict.DROPPED, base, base.chain, ""))


def _of_iptables(rule: Parsed) -> Effect:
    return _TARGETS.get(rule.target, Effect.NONE)


def _of_nft(text: str, verdict: str) -> Effect:
    plain = _COMMENT.sub("", text)
    for statement, effect in _STATEMENTS:
        if statement.search(plain):
            return effect
    return _VERDICTS.get(verdict, Effect.NONE)
