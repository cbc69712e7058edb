"""By what rules of others tell destinations apart."""

from __future__ import annotations

import pytest

from kpx.diff.foreign import mentioned

RULES = (
    "-d 10.96.0.0/24 -p tcp -m tcp --dport 80 -j DROP",
    "-p udp -m multiport --dports 53,8000:8010 -j DROP",
    "ip daddr 192.0.2.7 drop",
    "-d fd00:96::/112 -j REJECT",
)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (("10.96.0.1", 80, "TCP"), ("10.96.0.2", 80, "TCP"), True),
        (("10.96.0.1", 80, "TCP"), ("10.96.0.1", 81, "TCP"), False),
        (("10.96.0.1", 80, "TCP"), ("10.96.1.1", 80, "TCP"), False),
        (("10.96.1.1", 90, "TCP"), ("10.97.1.1", 91, "TCP"), True),
        (("10.96.1.1", 8001, "UDP"), ("10.96.1.1", 8009, "UDP"), True),
        (("10.96.1.1", 8001, "UDP"), ("10.96.1.1", 8011, "UDP"), False),
        (("10.96.1.1", 8001, "UDP"), ("10.96.1.1", 8001, "TCP"), False),
        (("192.0.2.7", 90, "TCP"), ("192.0.2.8", 90, "TCP"), False),
        (("fd00:96::1", 90, "TCP"), ("fd00:97::1", 90, "TCP"), False),
        ((None, 30080, "TCP"), ("10.97.0.1", 30080, "TCP"), False),
    ],
)
def test_destinations_are_told_apart_by_what_rules_name(
    one: tuple[str | None, int, str], other: tuple[str | None, int, str], alike: bool
) -> None:
    named = mentioned(RULES)
    assert (named.sort(*one) == named.sort(*other)) is alike


def test_what_sets_hold_that_cannot_be_read_is_taken_for_everything() -> None:
    named = mentioned(["-p tcp -j DROP"], opaque=True)
    assert named.sort("10.96.0.1", 80, "TCP") != named.sort("10.96.0.2", 80, "TCP")
