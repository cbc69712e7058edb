"""The network namespaces at the other ends of links, and the processes behind sockets."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from kpx.kernel import peers, sockets
from kpx.kernel.links import addresses
from kpx.kernel.network_namespaces import entered
from kpx.lab import namespaces


@pytest.fixture
def other() -> Iterator[str]:
    """The name of a network namespace to which a link leads from here."""
    name = f"p{os.getpid()}"
    namespaces.make(name)
    try:
        link = [
            "ip",
            "link",
            "add",
            "here0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(namespaces.NETNS / name),
        ]
        subprocess.run(link, check=True)
        with namespaces.entered(name):
            subprocess.run(["ip", "address", "add", "192.0.2.1/32", "dev", "eth0"], check=True)
        yield name
    finally:
        namespaces.remove(name)


def test_the_namespace_at_the_other_end_of_a_link(other: str) -> None:
    assert peers.peers() == [("here0", namespaces.NETNS / other)]
    with entered(namespaces.NETNS / other):
        assert ("eth0", "192.0.2.1") in [(one.interface, one.address) for one in addresses()]
    assert "here0" in [name for _, name in socket.if_nameindex()]


@pytest.mark.usefixtures("other")
def test_the_ports_of_a_bridge() -> None:
    assert peers.masters() == {}
    subprocess.run(["ip", "link", "add", "br0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", "here0", "master", "br0"], check=True)
    assert peers.masters() == {"br0": ["here0"]}


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
def test_who_listens_on_a_port(family: socket.AddressFamily, address: str) -> None:
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        (found,) = sockets.listening("tcp", port)
        assert (found.address, sockets.owner(found.inode)) == (address, os.getpid())
        assert sockets.listening("udp", port) == []
    assert sockets.listening("tcp", port) == []
    assert sockets.owner(found.inode) is None
