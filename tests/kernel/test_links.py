"""The addresses of a node's interfaces."""

from __future__ import annotations

import subprocess
import threading

import pytest

from kpx.kernel.links import InterfaceAddress, address_changes, addresses
from kpx.net import Family

V4, V6 = Family.IPV4, Family.IPV6


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


@pytest.fixture(autouse=True)
def interfaces() -> None:
    ip("link add left type veth peer name right")
    ip("addr add 192.0.2.1/24 dev left")
    ip("addr add 192.0.2.9/32 dev left")
    ip("addr add 10.0.0.1 peer 10.0.0.2/32 dev right")
    ip("addr add 2001:db8::1/64 dev right nodad")


def test_every_address_with_its_interface_and_its_own_end_of_a_link() -> None:
    assert set(addresses(V4)) == {
        InterfaceAddress("lo", "127.0.0.1", 8, V4),
        InterfaceAddress("left", "192.0.2.1", 24, V4),
        InterfaceAddress("left", "192.0.2.9", 32, V4),
        InterfaceAddress("right", "10.0.0.1", 32, V4),
    }
    assert set(addresses(V6)) == {
        InterfaceAddress("lo", "::1", 128, V6),
        InterfaceAddress("right", "2001:db8::1", 64, V6),
    }
    assert set(addresses()) == {*addresses(V4), *addresses(V6)}


def test_hundreds_of_addresses_take_more_than_one_answer() -> None:
    commands = "".join(f"addr add 10.1.{n >> 8}.{n & 255}/32 dev left\n" for n in range(600))
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    assert len(addresses(V4)) == 604


@pytest.mark.parametrize(
    "change", ["addr add 192.0.2.2/24 dev left", "addr del 192.0.2.9/32 dev left", "-6 addr flush dev right"]
)
def test_a_change_is_told(change: str) -> None:
    changes = address_changes(threading.Event(), poll=0.01)
    ip(change)
    next(changes)


def test_a_burst_is_told_once() -> None:
    stop = threading.Event()
    changes = address_changes(stop, poll=0.01)
    commands = "".join(f"addr add 10.1.0.{n}/32 dev left\n" for n in range(1, 200))
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
    next(changes)
    stop.set()
    assert list(changes) == []


def test_a_watch_ends_when_told_and_not_before() -> None:
    stop = threading.Event()
    told: list[None] = []

    def watch() -> None:
        for change in address_changes(stop, poll=0.01):
            told.append(change)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        while len(told) < 3:
            assert watcher.is_alive()
            ip("addr add 192.0.2.2/32 dev left")
            ip("addr del 192.0.2.2/32 dev left")
    finally:
        stop.set()
        watcher.join()
