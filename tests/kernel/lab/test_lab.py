"""The lab in the kernel: who reaches whom, how it comes, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kpx import lab
from kpx.lab import Lab, LabError, namespaces, state
from kpx.lab.requests import Outcome, Reply, Request, send
from kpx.lab.state import State
from kpx.lab.topology import namespaces_of
from kpx.net import Family

_SECONDS = 40.0
PORTS = {"tcp": 8080, "udp": 53}


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    """A lab without a daemon."""
    name = f"s{os.getpid()}"
    try:
        yield lab.up(name, daemon=None)
    finally:
        lab.down(name)


@pytest.fixture
def name() -> Iterator[str]:
    """The name of a lab that is removed after the test."""
    name = f"n{os.getpid()}"
    try:
        yield name
    finally:
        lab.down(name)


def ask(where: Lab, sender: str, address: str, port: int = 8080, protocol: str = "tcp", **more: object) -> Reply:
    (reply,) = send([Request(where.namespace(sender), protocol, address, port, **more)])  # type: ignore[arg-type]
    return reply


def nothing_is_left(name: str) -> bool:
    return not State(name).exists and not namespaces_of(name, namespaces.names())


def poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("protocol", PORTS)
@pytest.mark.parametrize("sender", ["client", "client2", "node", "node-b", "a10", "b11"])
def test_everyone_is_reached_and_sees_who_asks(small: Lab, sender: str, protocol: str, family: Family) -> None:
    for pod in ("a11", "b10"):
        reply = ask(small, sender, small.topology.place(pod).address(family), PORTS[protocol], protocol)
        assert (reply.outcome, reply.answers) == (Outcome.ANSWERED, pod)
        assert reply.client == small.topology.place(sender).address(family)
        assert reply.client_port == reply.source_port


@pytest.mark.parametrize(
    "address", ["10.96.100.1", "192.0.2.10", "198.51.100.200", "fd00:96::1001", "2001:db8:198::200"]
)
@pytest.mark.parametrize("protocol", PORTS)
@pytest.mark.parametrize("sender", ["client", "node", "a10"])
def test_what_no_rule_translates_is_answered_beyond_the_node(
    small: Lab, sender: str, protocol: str, address: str
) -> None:
    family = Family.IPV6 if ":" in address else Family.IPV4
    reply = ask(small, sender, address, 80, protocol)

    assert (reply.answers, reply.client) == ("router", small.topology.place(sender).address(family))


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("protocol", PORTS)
def test_a_closed_port_refuses_at_once(small: Lab, protocol: str, family: Family) -> None:
    address = small.topology.place("a10").address(family)

    assert ask(small, "client", address, 9, protocol, timeout=_SECONDS).outcome is Outcome.REFUSED


def test_silence_is_a_timeout(small: Lab) -> None:
    nobody = "10.244.21.99"
    subprocess.run(["ip", "-n", small.namespace("node"), "route", "add", "blackhole", nobody], check=True)

    assert ask(small, "client", nobody, timeout=0.1).outcome is Outcome.TIMEOUT


def test_a_client_speaks_from_many_addresses_and_any_port(small: Lab) -> None:
    for address, source in (("10.244.21.10", "203.0.113.77"), ("fd00:244:0:21::10", "2001:db8:203::77")):
        reply = ask(small, "client", address, source=source, source_port=4711)
        assert (reply.client, reply.client_port) == (source, 4711)


def test_requests_are_answered_in_their_order(small: Lab) -> None:
    pods = ["a10", "b10", "a11"] * 30
    addresses = [small.topology.place(pod).address(Family.IPV4) for pod in pods]

    replies = send([Request(small.namespace("client"), "tcp", address, 8080) for address in addresses])
    assert [reply.answers for reply in replies] == pods


def run(where: Lab, place: str, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.command(where.name, place, argv), capture_output=True, text=True, check=False)


def test_programs_run_in_their_place_with_the_labs_own_run_folder(small: Lab) -> None:
    done = run(small, "client", ["sh", "-c", "ls /sys/class/net; echo mark > /run/mark; exit 7"])

    assert (done.returncode, done.stdout.split()) == (7, ["eth0", "lo"])
    assert (State(small.name).run / "mark").read_text() == "mark\n"
    assert not Path("/run/mark").exists()


def test_a_program_of_a_lab_does_not_remove_it(small: Lab) -> None:
    done = run(small, "node", [sys.executable, "-m", "kpx", "lab", "down", "--name", small.name])
    assert done.returncode == 1
    assert "leave it, and run" in done.stderr
    assert lab.status(small.name).healthy


def test_kpx_is_found_in_a_place_though_it_is_in_no_folder_for_programs(small: Lab) -> None:
    words = [sys.executable, "-m", "kpx", "lab", "exec", "--name", small.name, "node", "kpx", "--version"]
    environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["kpx"]), done.stderr


def test_an_unknown_place_is_told(small: Lab) -> None:
    with pytest.raises(LabError, match="has no place 'a99'; it has router, node-a"):
        lab.command(small.name, "a99", ["true"])


def test_two_labs_have_the_same_addresses_and_do_not_meet(small: Lab, name: str) -> None:
    other = lab.up(name, daemon=None)
    subprocess.run(["ip", "-n", other.namespace("b10"), "link", "set", "eth0", "down"], check=True)

    assert ask(other, "client", "10.244.21.10").answers == "a10"
    assert ask(other, "client", "10.244.22.10", timeout=0.2).outcome is not Outcome.ANSWERED
    assert ask(small, "client", "10.244.22.10").answers == "b10"
    assert lab.down(name)
    assert nothing_is_left(name)
    assert lab.status(small.name).healthy


def test_a_lab_that_is_up_is_not_made_again(small: Lab) -> None:
    with pytest.raises(LabError, match=f"is there already.*kpx lab down --name {small.name}"):
        lab.up(small.name, daemon=None)
    assert lab.status(small.name).healthy


def test_a_lab_that_is_not_up_has_no_status(name: str) -> None:
    with pytest.raises(LabError, match="is not up"):
        lab.status(name)
    assert not lab.down(name)


@pytest.mark.parametrize("bad", ["", "Lab", "a-b", "a/b", "x" * 17])
def test_a_name_that_would_not_do_is_told(bad: str) -> None:
    with pytest.raises(LabError, match="cannot name a lab"):
        lab.up(bad, daemon=None)


def test_status_tells_what_died(name: str) -> None:
    made = lab.up(name, daemon=None)
    assert made.healthy
    os.kill(made.processes[0].pid, 9)
    poll(lambda: not lab.status(name).healthy)
    namespaces.remove(made.namespace("b10"))

    assert lab.status(name).missing == (f"{name}-b10",)


def test_down_finds_what_a_crash_has_left(name: str) -> None:
    made = lab.up(name, daemon=None)
    stray = subprocess.Popen(lab.command(name, "a10", ["sleep", "60"]))
    in_place = namespaces.inode(made.namespace("a10"))
    poll(lambda: any(process.pid == stray.pid for process in state.processes_in({in_place})))
    for record in ("lab.json", "processes"):
        (State(name).folder / record).unlink()

    assert lab.down(name)
    assert stray.wait(_SECONDS) < 0
    assert not made.processes[0].alive
    assert nothing_is_left(name)


def test_down_finds_a_lab_that_was_made_by_half(name: str) -> None:
    namespaces.make(f"{name}-a10")
    with pytest.raises(LabError, match="or part of it"):
        lab.up(name, daemon=None)

    assert lab.down(name)
    assert nothing_is_left(name)


def test_a_daemon_that_ends_is_told_with_its_last_words(name: str) -> None:
    with pytest.raises(LabError, match="the daemon ended at its start: no such mode"):
        lab.up(name, daemon=lambda _: ["sh", "-c", "echo no such mode >&2; exit 1"])
    assert nothing_is_left(name)


def test_an_interrupted_up_leaves_nothing(name: str) -> None:
    def interrupted(_: State) -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.up(name, daemon=interrupted)
    assert nothing_is_left(name)


def test_a_lab_is_proxied_and_follows_its_manifests(name: str) -> None:
    made = lab.up(name, services=20)
    assert {process.role: process.alive for process in made.processes} == {"servers": True, "daemon": True}
    assert ask(made, "a11", "10.96.100.1", 80).answers in {"a10", "b10"}
    assert ask(made, "client", "10.97.0.19", 80).outcome is Outcome.ANSWERED
    assert ask(made, "node", "fd00:96::1009", 80).outcome is Outcome.REFUSED

    (made.manifests / "10-web.yaml").unlink()
    poll(lambda: ask(made, "a11", "10.96.100.1", 80).answers == "router")
    assert lab.down(name)
    assert nothing_is_left(name)
    assert not any(process.alive for process in made.processes)
