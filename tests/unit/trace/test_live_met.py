"""What the rules on a packet's way are for, by their text and by the verdict that the kernel reports."""

from __future__ import annotations

import pytest

from kpx.trace.live.met import Effect, met_policy, met_rule
from kpx.trace.outcome import Base, Hook
from kpx.trace.result import Verdict

NATIVE = Base(Hook.FORWARD, "inet fw", "pass", 0)
NFT = Base(Hook.FORWARD, "filter", "FORWARD", 0, kind="iptables-nft")
LEGACY = Base(Hook.FORWARD, "filter", "FORWARD", 0, kind="iptables-legacy")


@pytest.mark.parametrize(
    ("base", "text", "verdict", "effect", "note"),
    [
        (NATIVE, "meta l4proto tcp dnat ip to numgen random mod 2 map @m", "accept", Effect.DESTINATION, ""),
        (NATIVE, "ct status dnat ip saddr 10.0.0.1 masquerade fully-random", "accept", Effect.SOURCE, ""),
        (NATIVE, "ip daddr . th dport vmap @services", "goto lb-4", Effect.NONE, "goto lb-4"),
        (NATIVE, "ip daddr . th dport vmap @none", "drop", Effect.DROP, "drop"),
        (NATIVE, "reject with icmp 3", "drop", Effect.REJECT, "reject"),
        (NATIVE, 'ct state new counter comment "drop and dnat to nowhere"', "continue", Effect.NONE, ""),
        (NATIVE, "meta mark set meta mark | 0x00004000", "continue", Effect.MARK, ""),
        (NFT, "-p tcp -j REJECT --reject-with tcp-reset", "drop", Effect.REJECT, "reject"),
        (NFT, "! -s 10.0.0.0/8 -j KUBE-MARK-MASQ", "jump KUBE-MARK-MASQ", Effect.NONE, "jump KUBE-MARK-MASQ"),
        (NFT, "meta l4proto tcp drop", "drop", Effect.DROP, "drop"),
        (LEGACY, "! -s 10.0.0.0/8 -j KUBE-MARK-MASQ", "", Effect.NONE, "jump KUBE-MARK-MASQ"),
        (LEGACY, "-d 10.0.0.1/32 -g KUBE-SVC-A", "", Effect.NONE, "goto KUBE-SVC-A"),
        (LEGACY, '-m comment --comment "-j DROP" -j MARK --set-xmark 0x4000/0x4000', "", Effect.MARK, ""),
        (LEGACY, "-j RETURN", "", Effect.NONE, ""),
        (LEGACY, "(a rule that is gone)", "", Effect.NONE, ""),
    ],
)
def test_a_rule(base: Base, text: str, verdict: str, effect: Effect, note: str) -> None:
    met = met_rule(base, "c", text, verdict)

    assert (met.effect, met.hop.note) == (effect, note)
    assert met.ends is {Effect.DROP: Verdict.DROPPED, Effect.REJECT: Verdict.REJECTED}.get(effect)


def test_a_policy() -> None:
    assert not met_policy(NATIVE, accepts=True).ends
    assert met_policy(NATIVE, accepts=False).end == (
        "dropped: by the policy of table inet fw, chain pass, which is not kube-proxy's"
    )
