from __future__ import annotations

import pytest

from kpx.config.addresses import default_servers, is_port, split_host_port, with_port
from kpx.config.errors import ConfigError
from kpx.config.nodename import node_name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1.2.3.4:80", ("1.2.3.4", "80")),
        ("[::1]:80", ("::1", "80")),
        (":80", ("", "80")),
        ("host:", ("host", "")),
    ],
)
def test_host_and_port(text: str, parts: tuple[str, str]) -> None:
    assert split_host_port(text) == parts


@pytest.mark.parametrize("text", ["", "1.2.3.4", "::1", "::1:80", "[::1]", "[::1]80", "[[::1]]:80", "[::1]:80:90"])
def test_no_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match="is neither IP:port nor"):
        split_host_port(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.3.4", "1.2.3.4:9"),
        ("::1", "[::1]:9"),
        ("1.2.3.4:80", "1.2.3.4:80"),
        ("[::1]:80", "[::1]:80"),
        ("no address", "no address"),
        ("", ""),
    ],
)
def test_with_port(text: str, expected: str) -> None:
    assert with_port(text, 9) == expected


def test_ports() -> None:
    assert [text for text in ("0", "1", "65535", "65536", "-1", "", "x", "\N{SUPERSCRIPT TWO}") if is_port(text)] == [
        "1",
        "65535",
    ]


@pytest.mark.parametrize(
    ("bind_address", "servers"),
    [
        ("", ("0.0.0.0:10256", "127.0.0.1:10249")),
        ("10.0.0.1", ("0.0.0.0:10256", "127.0.0.1:10249")),
        ("fd00::1", ("[::]:10256", "[::1]:10249")),
        ("nonsense", ("0.0.0.0:10256", "127.0.0.1:10249")),
    ],
)
def test_default_servers(bind_address: str, servers: tuple[str, str]) -> None:
    assert default_servers(bind_address) == servers


@pytest.mark.parametrize(
    ("override", "host_name", "name"), [("", "Host.Example\n", "host.example"), (" Node-A ", "host", "node-a")]
)
def test_node_name(override: str, host_name: str, name: str) -> None:
    assert node_name(override, host_name) == name


def test_a_node_needs_a_name() -> None:
    with pytest.raises(ConfigError, match=r"^empty hostname is invalid$"):
        node_name("", " ")
