"""What a trace can be asked about."""

from __future__ import annotations

import pytest

from kpx.tools.cluster import Options
from kpx.trace import command
from kpx.trace.command import Wish
from kpx.trace.questions import Asked
from kpx.trace.target import BadTarget, Target, is_address, parse_target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.96.0.10:53", Target("10.96.0.10", 53, "tcp")),
        ("10.96.0.10:53/UDP", Target("10.96.0.10", 53, "udp")),
        ("[fd00::10]:443/sctp", Target("fd00::10", 443, "sctp")),
        ("nodeport/30080", Target("", 30080, "tcp")),
        ("nodeport/30080/udp", Target("", 30080, "udp")),
    ],
)
def test_targets(text: str, expected: Target) -> None:
    assert is_address(text)
    assert parse_target(text) == expected


@pytest.mark.parametrize("text", ["10.96.0.10", "fd00::10", "[fd00::10]", "10.96.0.10/udp"])
def test_a_port_beside_an_address(text: str) -> None:
    assert is_address(text)
    assert parse_target(text, "53").port == 53


@pytest.mark.parametrize("text", ["svc/web", "shop/web:80", "web", "pod/web", "7up:80", "nodeports/web"])
def test_names_are_no_addresses(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.96.0.10", "names no port"),
        ("fd00::10:443", "stands in brackets"),
        ("10.96.0.300:53", "is no IP address"),
        ("10.96.0.10:0", "is no port"),
        ("10.96.0.10:70000", "is no port"),
        ("10.96.0.10:http", "is no port"),
        ("10.96.0.10:53/icmp", "no protocol of Services"),
        ("nodeport/x", "is no port"),
    ],
)
def test_bad_targets_are_told_in_a_sentence(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadTarget, match=told):
        parse_target(text)

    assert command.run(Wish(Asked(text, sender="node")), Options(kernel_only=True)) == 2

    complaint = capsys.readouterr().err
    assert complaint.startswith("kpx trace: ")
    assert complaint.count("\n") == 1
