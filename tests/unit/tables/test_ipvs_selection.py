"""The services that an argument names, and what names none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.types import PROTOCOLS, Virtual
from kpx.net import Family, join_port
from kpx.tables.ipvs.selection import BadSelection, parse

VIRTUALS = [
    Virtual("10.96.0.1", 80, "TCP"),
    Virtual("10.96.0.1", 53, "TCP"),
    Virtual("10.96.0.1", 53, "UDP"),
    Virtual("fd00::1", 53, "UDP"),
    Virtual("", 0, "", 5),
    Virtual("", 0, "", 5, Family.IPV6),
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("10.96.0.1", [0, 1, 2]),
        ("10.96.0.1:53", [1, 2]),
        ("10.96.0.1:53/udp", [2]),
        ("10.96.0.1/TCP", [0, 1]),
        ("fd00::1", [3]),
        ("fd00:0:0::1/udp", [3]),
        ("[fd00::1]", [3]),
        ("[fd00::1]:53", [3]),
        ("[fd00::1]:54", []),
        ("fwmark:5", [4, 5]),
        ("fwmark:6", []),
        ("0.0.0.5", []),
    ],
)
def test_the_parts_that_are_given_must_agree(text: str, names: list[int]) -> None:
    selection = parse(text)
    assert [at for at, virtual in enumerate(VIRTUALS) if selection.names(virtual)] == names
    assert str(selection) == text


def test_connections_are_named_by_their_virtual_server() -> None:
    connection = Connection("UDP", "10.1.0.1", 40000, "10.96.0.1", 53, "10.0.0.1", 5353, "UDP", 10)
    assert parse("10.96.0.1:53/udp").names_that_of(connection)
    assert not parse("10.0.0.1").names_that_of(connection)


@given(some.ip_addresses().map(str), some.integers(0, 65535), some.sampled_from(sorted(PROTOCOLS)))
def test_every_virtual_server_is_named_by_what_is_printed_of_it(address: str, port: int, protocol: str) -> None:
    if address.startswith("::ffff:"):
        return  # is taken for the IPv4 address in it, which is what the API server does
    selection = parse(f"{join_port(address, port)}/{protocol.lower()}")
    assert (selection.port, selection.protocol) == (port, protocol)
    assert selection.names(Virtual(selection.address, port, protocol))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "'' is no IP address; names are not looked up"),
        ("web", "'web' is no IP address; names are not looked up"),
        ("10.96.0", "'10.96.0' is no IP address; names are not looked up"),
        ("10.96.0.0/12", "'12' is no protocol: write tcp, udp or sctp"),
        ("10.96.0.1/", "'' is no protocol: write tcp, udp or sctp"),
        ("10.96.0.1:", "'' is no port: write a number from 0 to 65535"),
        ("10.96.0.1:http", "'http' is no port: write a number from 0 to 65535"),
        ("10.96.0.1:65536", "'65536' is no port: write a number from 0 to 65535"),
        ("[fd00::1", "'[fd00::1' is not of the form ADDRESS[:PORT][/PROTOCOL] or fwmark:NUMBER"),
        ("[fd00::1]53", "'[fd00::1]53' is not of the form ADDRESS[:PORT][/PROTOCOL] or fwmark:NUMBER"),
        ("fwmark:", "'' is no firewall mark: write a number from 1 to 4294967295"),
        ("fwmark:0", "'0' is no firewall mark: write a number from 1 to 4294967295"),
        ("fwmark:5/tcp", "'5/tcp' is no firewall mark: write a number from 1 to 4294967295"),
    ],
)
def test_what_names_no_service_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadSelection) as refused:
        parse(text)
    assert str(refused.value) == sentence


@given(some.text())
def test_any_text_is_either_named_or_refused(text: str) -> None:
    with contextlib.suppress(BadSelection):
        parse(text)
