"""The connection table of the kernel at hand."""

from __future__ import annotations

import socket
import threading

import pytest

from kpx.kernel.ipvs import connections
from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.table import Ipvs, add_real, add_virtual
from kpx.kernel.ipvs.types import Flag, Real, Settings, Virtual
from tests.ipvs.worlds import run

VIRTUALS = {"10.96.0.1": "127.0.0.1", "fd00::1": "::1"}
PORT = 53
DATAGRAMS = 300


@pytest.fixture(autouse=True)
def servers() -> None:
    """A virtual server for each family, on an address of loopback."""
    run("ip address add 10.96.0.1/32 dev lo")
    run("ip address add fd00::1/128 dev lo nodad")
    with Ipvs() as ipvs:
        for address, real in VIRTUALS.items():
            virtual = Virtual(address, PORT, "UDP")
            assert not ipvs.apply([add_virtual(virtual, Settings()), add_real(virtual, Real(real, 5353))])


def send(address: str, count: int) -> list[int]:
    """Send datagrams from so many ports; return these."""
    ports = list(range(20000, 20000 + count))
    for port in ports:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((address, port))
            client.sendto(b"?", (address, PORT))
    return ports


@pytest.mark.parametrize(("address", "real"), VIRTUALS.items())
def test_a_connection_of_either_family_is_read(address: str, real: str) -> None:
    (port,) = send(address, 1)

    (connection,) = connections.read()

    assert connection.expires in range(1, 301)
    assert connection == Connection("UDP", address, port, address, PORT, real, 5353, "UDP", connection.expires)


def test_the_memory_of_a_persistent_server_is_a_row_without_a_client_port() -> None:
    virtual = Virtual("10.96.0.1", 54, "UDP")
    with Ipvs() as ipvs:
        asked = Settings("rr", Flag.PERSISTENT, 1000, 24)
        assert not ipvs.apply([add_virtual(virtual, asked), add_real(virtual, Real("127.0.0.1", 54))])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"?", ("10.96.0.1", 54))

    memory, connection = sorted(connections.read(), key=lambda one: one.client_port)

    assert (memory.client, memory.client_port, memory.virtual_port) == ("10.96.0.0", 0, 54)
    assert memory.expires > 900
    assert (connection.client, connection.real) == ("10.96.0.1", "127.0.0.1")


def test_many_rows_are_all_read_and_counted() -> None:
    ports = [*send("10.96.0.1", DATAGRAMS), *send("fd00::1", DATAGRAMS)]

    assert sorted(one.client_port for one in connections.read()) == sorted(ports)
    assert connections.total().entries == 2 * DATAGRAMS


def test_a_sample_ends_where_it_is_told_to_and_says_so() -> None:
    send("10.96.0.1", DATAGRAMS)

    found = connections.sample(DATAGRAMS - 1)
    assert (len(list(found.connections)), found.whole) == (DATAGRAMS - 1, False)
    found = connections.sample(DATAGRAMS)
    assert (len(list(found.connections)), found.whole) == (DATAGRAMS, True)
    found = connections.sample(DATAGRAMS, seconds=0)
    assert 0 < len(list(found.connections)) < DATAGRAMS
    assert not found.whole


def test_a_sample_is_of_what_is_wanted() -> None:
    send("10.96.0.1", DATAGRAMS)
    wanted = send("fd00::1", 3)

    found = connections.sample(10, wanted=lambda one: one.virtual == "fd00::1")

    assert found.whole
    assert sorted(one.client_port for one in found.connections) == sorted(wanted)


def test_the_namespace_is_that_of_the_thread() -> None:
    send("10.96.0.1", 1)
    found: list[list[Connection]] = []

    def elsewhere() -> None:
        found.append(list(connections.read()))

    # A thread inherits the namespace of the thread that starts it, not that of the process.
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert [one.virtual for one in found[0]] == ["10.96.0.1"]
