"""Connections announced by the kernel: those that are wanted, and no others."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from kpx.kernel.conntrack import SEEN_REPLY, Tuple
from kpx.kernel.conntrack_events import Event, Happening, Listener, Wanted, lookup
from kpx.kernel.headers import TCP, UDP
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket
from kpx.net import Family

ADDRESSES = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}
ELSEWHERE = {Family.IPV4: "127.0.0.2", Family.IPV6: "::2"}
KINDS = {TCP: socket.SOCK_STREAM, UDP: socket.SOCK_DGRAM}
PORT = 8080
SECONDS = 5.0

flows = pytest.mark.parametrize(("family", "protocol"), [(family, protocol) for family in Family for protocol in KINDS])


@pytest.fixture(autouse=True)
def tracking() -> None:
    """Connections are tracked where a rule asks for it."""
    for words in ("add table inet t", "add chain inet t c { type filter hook output priority 0; }"):
        subprocess.run(["nft", words], check=True)
    subprocess.run(["nft", "add rule inet t c ct state new counter"], check=True)


@contextmanager
def exchange(family: Family, protocol: int) -> Iterator[int]:
    """A packet to PORT and one back, over loopback; yields the client's port while both ends are open."""
    there = ADDRESSES[family], PORT
    with socket.socket(family.af, KINDS[protocol]) as server, socket.socket(family.af, KINDS[protocol]) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(there)
        if protocol == TCP:
            server.listen()
        client.connect(there)
        if protocol == UDP:
            client.send(b"there")
            server.sendto(b"back", server.recvfrom(16)[1])
        yield client.getsockname()[1]


def received(listener: Listener) -> list[Event]:
    """All events up to the first one that says that there was an answer."""
    found: list[Event] = []
    while not any(event.flow.status & SEEN_REPLY for event in found):
        events = listener.receive(SECONDS)
        assert events, "nothing came"
        found += events
    return found


@flows
def test_what_is_wanted_comes(family: Family, protocol: int) -> None:
    wanted = [Wanted(family, protocol, 1), Wanted(family, protocol, PORT, ADDRESSES[family], ADDRESSES[family])]
    with closing(Listener(wanted)) as listener, exchange(family, protocol) as port:
        came, changed = received(listener)
        with Socket(NETLINK_NETFILTER) as netlink:
            found = lookup(netlink, came.flow.original)

    assert (came.happening, changed.happening) == (Happening.CAME, Happening.CHANGED)
    assert came.flow.original == Tuple(protocol, ADDRESSES[family], port, ADDRESSES[family], PORT)
    assert found is not None
    assert found.id == came.flow.id == changed.flow.id


@flows
def test_nothing_else_comes(family: Family, protocol: int) -> None:
    here, elsewhere = ADDRESSES[family], ELSEWHERE[family]
    others = [
        Wanted(next(one for one in Family if one is not family), protocol, PORT),
        Wanted(family, protocol, PORT, elsewhere),
        Wanted(family, protocol, PORT, here, source=elsewhere),
        Wanted(family, protocol, PORT, here, source_port=PORT),
        Wanted(family, UDP if protocol == TCP else TCP, PORT, here),
        Wanted(family, protocol, PORT + 1, here),
    ]
    with closing(Listener([Wanted(family, protocol, PORT)])) as all_of_it, closing(Listener(others)) as listener:
        with exchange(family, protocol):
            received(all_of_it)
        assert listener.receive(0) is None


def test_no_such_connection() -> None:
    with Socket(NETLINK_NETFILTER) as netlink:
        assert lookup(netlink, Tuple(TCP, "192.0.2.1", 1, "192.0.2.2", 2)) is None
