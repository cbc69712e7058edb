"""Rules of iptables as text: taken apart, and nothing of them lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.kernel.iptables.program import Variant
from kpx.proxier.iptables.rules import comment, rule
from kpx.trace.iptables_text import Match, Option, parse, split_line
from tests.packets.scenario import FIXTURE


def test_a_rule_of_a_service() -> None:
    text = '! -s 10.0.0.0/8 -d 10.96.0.1/32 -p tcp -m comment --comment "a: b" -m tcp --dport 443 -j KUBE-MARK-MASQ'

    parsed = parse(text)

    assert parsed.matches == (
        Match("", (Option("-s", ("10.0.0.0/8",), True),)),
        Match("", (Option("-d", ("10.96.0.1/32",)),)),
        Match("", (Option("-p", ("tcp",)),)),
        Match("comment", (Option("--comment", ("a: b",)),)),
        Match("tcp", (Option("--dport", ("443",)),)),
    )
    assert (parsed.target, parsed.goto) == ("KUBE-MARK-MASQ", False)


def test_options_of_a_target() -> None:
    parsed = parse("-p tcp -g CHAIN")
    assert (parsed.target, parsed.goto) == ("CHAIN", True)
    parsed = parse("-j DNAT --to-destination 10.0.0.1:80 --random --persistent")
    assert [str(option) for option in parsed.options] == ["--to-destination 10.0.0.1:80", "--random", "--persistent"]


def test_options_with_several_values_and_negations() -> None:
    parsed = parse("-m set ! --match-set A dst,dst -m recent --rcheck --seconds 10 --reap --name B -j DROP")
    assert parsed.matches[0].options == (Option("--match-set", ("A", "dst,dst"), True),)
    assert [option.name for option in parsed.matches[1].options] == ["--rcheck", "--seconds", "--reap", "--name"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[3:180] -A NAT -p tcp -j X", ("NAT", "-p tcp -j X", 3)),
        ("-A NAT -p tcp -c 3 180 -j X", ("NAT", "-p tcp -j X", 3)),
        ("-A NAT -c 3 180 -j X", ("NAT", "-j X", 3)),
        ("-A NAT -c 3 180", ("NAT", "", 3)),
        ("[0:0] -A NAT", ("NAT", "", 0)),
        ("-A NAT -j X", ("NAT", "-j X", None)),
    ],
)
def test_chain_rule_and_counter(line: str, expected: tuple[str, str, int | None]) -> None:
    assert split_line(line) == expected


@given(st.text(min_size=1, max_size=80))
def test_any_comment_is_read_as_it_was_written(text: str) -> None:
    written = comment(text)
    shown = "".join(one if one.isprintable() else "?" for one in text)

    parsed = parse(rule(written, source="10.0.0.0/8", jump="DROP"))

    (noted,) = (match for match in parsed.matches if match.module == "comment")
    assert shown.startswith(noted.options[0].value)
    assert parsed.target == "DROP"
    assert len(parsed.matches) == 2


@pytest.mark.parametrize("variant", [one.value for one in Variant])
@pytest.mark.parametrize("program", ["iptables", "ip6tables"])
def test_every_stock_rule_is_read_whole(variant: str, program: str) -> None:
    text = (FIXTURE / f"{program}-{variant}-save.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("-A "):
            parsed = parse(split_line(line).rule)
            options = [str(option) for option in (*parsed.options, *(o for m in parsed.matches for o in m.options))]
            words = sum(len(option.split()) for option in options)
            modules = sum(bool(match.module) for match in parsed.matches)
            expected = split_line(line).rule.replace('"', "").split()
            assert words + 2 * modules + 2 * bool(parsed.target) == len(expected), line
