"""Real connections through the skeleton: a virtual address leads to both backends, and each counts its own."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.sets import unpack
from kpx.kernel.nft.transaction import Elements, Transaction, add, delete
from kpx.kernel.nft.wire import NfFamily
from tests.kernel.nft.skeleton import Skeleton

CONNECTIONS = 60


def ip_command(family: NfFamily, *words: str) -> None:
    subprocess.run(["ip", "-6" if family is NfFamily.IP6 else "-4", *words], check=True)


def serve(listening: socket.socket, name: str) -> None:
    """Send everyone who connects the server's name, until the socket is shut down."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.sendall(name.encode())


@pytest.fixture
def servers(skeleton: Skeleton) -> Iterator[None]:
    """A server on each backend's address, and a way for the virtual address to be routed."""
    af = socket.AF_INET6 if skeleton.family is NfFamily.IP6 else socket.AF_INET
    bits, nodad = ("128", ("nodad",)) if skeleton.family is NfFamily.IP6 else ("32", ())
    for backend in skeleton.addresses.backends:
        ip_command(skeleton.family, "address", "add", f"{backend}/{bits}", "dev", "lo", *nodad)
    source = skeleton.addresses.backends[0]
    ip_command(skeleton.family, "route", "add", skeleton.addresses.vip, "dev", "lo", "src", source)
    with ExitStack() as stack:
        for backend in skeleton.addresses.backends:
            listening = stack.enter_context(socket.create_server((backend, 8080), family=af, backlog=100))
            thread = threading.Thread(target=serve, args=(listening, backend))
            thread.start()
            stack.callback(thread.join)
            stack.callback(listening.shutdown, socket.SHUT_RDWR)
        yield


def connect(skeleton: Skeleton) -> str:
    """The backend that answers a new connection to the virtual address."""
    with socket.create_connection((skeleton.addresses.vip, 80), timeout=5) as connection:
        return connection.recv(100).decode()


@pytest.mark.usefixtures("servers")
def test_new_connections_are_spread_and_counted(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    answered = Counter(connect(skeleton) for _ in range(CONNECTIONS))
    assert set(answered) == set(skeleton.addresses.backends)
    counted = {
        unpack(skeleton.endpoints.data, element.data)[0]: element.counter.packets
        for element in nft.elements(skeleton.table, "endpoints")
        if isinstance(element.data, bytes) and element.counter is not None and element.counter.packets
    }
    assert counted == answered


@pytest.mark.usefixtures("servers")
def test_a_backend_is_replaced_under_the_same_key(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    first, second = skeleton.addresses.backends
    old, new = skeleton.backend(0, first), skeleton.backend(0, second)
    nft.apply(
        Transaction(
            skeleton.table,
            (delete(Elements(skeleton.endpoints, (old,))), add(Elements(skeleton.endpoints, (new,)))),
        )
    )
    assert {connect(skeleton) for _ in range(20)} == {second}


@pytest.mark.usefixtures("servers")
def test_a_missing_slot_falls_through_to_the_next_rule(nft: Nft, skeleton: Skeleton) -> None:
    # The chain's second rule looks in the list at the offset, which has one backend in its only slot.
    nft.apply(skeleton.transaction)
    slots = tuple(skeleton.backend(slot, skeleton.addresses.backends[slot]) for slot in (0, 1))
    nft.apply(Transaction(skeleton.table, (delete(Elements(skeleton.endpoints, slots)),)))
    assert {connect(skeleton) for _ in range(20)} == {skeleton.addresses.backends[0]}
