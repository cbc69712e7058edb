"""`kpx ipvs` beside ipvsadm, on the same state: virtual servers of all kinds, with traffic."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kpx.cli import app
from kpx.kernel.ipvs.table import loaded
from tests.ipvs.worlds import run

ADDRESSES = ("10.96.0.1", "10.96.0.2", "172.16.0.1", "192.168.0.1", "203.0.113.1", "100.64.0.1", "fd00::1", "fd00::2")
# In an order of no meaning; the addresses are from all around the number space.
TABLE = """
-A -u [fd00::2]:53 -s wlc
-a -u [fd00::2]:53 -r [fd00::1]:5353 -m -w 7
-a -u [fd00::2]:53 -r [2001:db8::1]:5353 -m -w 0
-A -t 192.168.0.1:80 -s mh -b mh-port
-a -t 192.168.0.1:80 -r 10.0.0.9:80 -g -w 65535
-A -t 10.96.0.1:80 -s rr -p 10800
-a -t 10.96.0.1:80 -r 127.0.0.1:8080 -m
-a -t 10.96.0.1:80 -r 192.168.7.7:8080 -m -w 0 -x 500 -y 100
-a -t 10.96.0.1:80 -r 10.9.9.9:80 -i -w 0
-A -t 10.96.0.1:443 -s sh -b sh-port,sh-fallback
-A -t 10.96.0.2:80 -s wrr -b flag-1,flag-3 -p 100 -M 255.255.240.0
-A -t 203.0.113.1:80 -s lblcr
-A -t 172.16.0.1:80 -s mh -b mh-fallback -p 360 -M 0.0.0.0
-A -u 10.96.0.1:53 -s rr
-a -u 10.96.0.1:53 -r 127.0.0.1:5353 -m
-A -u 10.96.0.2:53 -s rr -o
-a -u 10.96.0.2:53 -r 127.0.0.1:5353 -m
-A -t 100.64.0.1:80 -s sed -p 7 -M 255.0.255.0
-A -t [fd00::1]:80 -s rr -p 1800 -M 64
-a -t [fd00::1]:80 -r [::1]:8080 -m
-A -u [fd00::1]:53 -s wlc -o
-A --sctp-service 10.96.0.1:99 -s lc
-a --sctp-service 10.96.0.1:99 -r 127.0.0.1:99 -m
-A --sctp-service [fd00::1]:99 -s nq
-A -f 5 -s rr -p 30
-a -f 5 -r 127.0.0.1:8888 -m
-A -f 7 -6 -s dh
-a -f 7 -6 -r [::1]:8888 -m
"""


@pytest.fixture
def table() -> None:
    for address in ADDRESSES:
        run(f"ip address add {address}/{128 if ':' in address else 32} dev lo" + " nodad" * (":" in address))
    run("ipvsadm --restore", TABLE.lstrip())


@pytest.fixture
def traffic(request: pytest.FixtureRequest) -> Iterator[None]:
    """The table with connections that are open, closed and without an answer; persistent and marked ones."""
    request.getfixturevalue("table")
    run("ip address add 203.0.113.9/32 dev lo")
    run("iptables -t mangle -A OUTPUT -p tcp --dport 8888 -j MARK --set-mark 5")
    with ExitStack() as stack:
        for server in (("127.0.0.1", 8080), ("127.0.0.1", 8888), ("::1", 8080)):
            stack.enter_context(socket.create_server(server, family=family(server[0]), backlog=20))
        for server in ("127.0.0.1", "fd00::1"):
            stack.enter_context(udp_server(server))
        for target in (("10.96.0.1", 80), ("fd00::1", 80), ("203.0.113.9", 8888)):
            stack.enter_context(socket.create_connection(target, timeout=5))
        for _ in range(3):
            socket.create_connection(("10.96.0.1", 80), timeout=5).close()
        for target in (("10.96.0.1", 53), ("10.96.0.2", 53), ("fd00::2", 53)):
            query(target)
        yield


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def udp_server(address: str) -> socket.socket:
    """A server that never answers."""
    made = socket.socket(family(address), socket.SOCK_DGRAM)
    made.bind((address, 5353))
    return made


def query(target: tuple[str, int], datagrams: int = 3, size: int = 100) -> None:
    with socket.socket(family(target[0]), socket.SOCK_DGRAM) as client:
        for _ in range(datagrams):
            client.sendto(b"?" * size, target)


def kpx(*arguments: str, status: int = 0) -> str:
    """What the command prints, run in the test's thread: in its network namespace."""
    done = CliRunner().invoke(app, ["ipvs", *arguments])
    assert done.exit_code == status, done.output
    return done.stdout if not status else done.stderr


def ipvsadm(*arguments: str) -> str:
    return run(" ".join(["ipvsadm", "-L", "-n", *arguments]))


def agreed(ours: tuple[str, ...], theirs: tuple[str, ...], has: tuple[str, ...] = ()) -> str:
    """What both print once they agree: counters are up to two seconds late, and connections expire."""
    deadline = time.monotonic() + 15
    while True:
        printed, expected = kpx(*ours), ipvsadm(*theirs)
        if printed == expected and all(text in printed for text in has):
            return printed
        if time.monotonic() > deadline:
            assert printed == expected
            assert not [text for text in has if text not in printed], printed
        time.sleep(0.1)


@pytest.mark.parametrize(
    "options", [(), ("--stats",), ("--rate",), ("--thresholds",), ("--persistent-conn",), ("--stats", "--exact")]
)
@pytest.mark.usefixtures("table")
def test_a_table_without_traffic_is_printed_as_by_ipvsadm(options: tuple[str, ...]) -> None:
    assert kpx(*options) == ipvsadm(*options)


@pytest.mark.parametrize("options", [(), ("--stats",), ("--rate",)])
def test_an_empty_table_is_printed_as_by_ipvsadm(options: tuple[str, ...]) -> None:
    assert kpx(*options) == ipvsadm(*options)


@pytest.mark.usefixtures("traffic")
def test_active_and_inactive_connections_are_printed_as_by_ipvsadm() -> None:
    agreed(
        (),
        (),
        has=(
            "  -> 127.0.0.1:8080               Masq    1      1          3         \n",
            "  -> [fd00::1]:5353               Masq    7      0          1         \n",
        ),
    )


@pytest.mark.usefixtures("traffic")
def test_what_was_counted_is_printed_as_by_ipvsadm() -> None:
    stats = agreed(("--stats",), ("--stats",), has=("UDP  10.96.0.2:53                        3        3 ",))
    assert "FWM  5                                   1 " in stats


@pytest.mark.usefixtures("traffic")
def test_what_passes_a_second_is_printed_as_by_ipvsadm() -> None:
    query(("10.96.0.1", 53), 2000)
    before = ("UDP  10.96.0.1:53                        0        0 ",)
    rates = agreed(("--rate",), ("--rate",))
    while before[0] in rates:
        query(("10.96.0.1", 53), 200)
        rates = agreed(("--rate",), ("--rate",))
    assert "UDP  10.96.0.1:53 " in rates


@pytest.mark.usefixtures("traffic")
def test_persistent_clients_are_printed_as_by_ipvsadm() -> None:
    agreed(
        ("--persistent-conn",),
        ("--persistent-conn",),
        has=("  -> 127.0.0.1:8080               1         1           1          3         \n",),
    )


@pytest.mark.usefixtures("table")
def test_large_numbers_are_shortened_as_by_ipvsadm() -> None:
    with udp_server("127.0.0.1"):
        query(("10.96.0.1", 53), datagrams=1700, size=60000)
    agreed(("--stats",), ("--stats",), has=("  102047K        0\n",))
    agreed(("--stats", "--exact"), ("--stats", "--exact"), has=(" 102047600        0\n",))


@pytest.mark.usefixtures("traffic")
def test_connections_are_printed_as_by_ipvsadm() -> None:
    connections = agreed(("-c",), ("-c",))
    for has in (" ESTABLISHED ", " UDP ", " ASSURED ", " [fd00::1]:80 ", " 0.0.0.5:0 ", "IP  "):
        assert has in connections
    agreed(("-c", "--persistent-conn"), ("-c", "--persistent-conn"))


def test_time_outs_are_printed_as_by_ipvsadm() -> None:
    run("ipvsadm --set 1000 60 30")
    assert kpx("--timeout") == ipvsadm("--timeout") == "Timeout (tcp tcpfin udp): 1000 60 30\n"


@pytest.mark.parametrize(
    ("service", "option"),
    [
        ("10.96.0.1:80/tcp", "-t 10.96.0.1:80"),
        ("10.96.0.1:99", "--sctp-service 10.96.0.1:99"),
        ("203.0.113.1", "-t 203.0.113.1:80"),
        ("[fd00::2]:53/UDP", "-u [fd00::2]:53"),
        ("fd00:0::2", "-u [fd00::2]:53"),
        ("fwmark:5", "-f 5"),
    ],
)
@pytest.mark.usefixtures("table")
def test_one_service_is_printed_as_by_ipvsadm(service: str, option: str) -> None:
    assert kpx(service) == ipvsadm(option)
    assert kpx("--stats", service) == ipvsadm("--stats", option)


@pytest.mark.usefixtures("traffic")
def test_an_address_alone_names_all_its_ports() -> None:
    names = [line.split()[:2] for line in kpx("10.96.0.1").splitlines()[2:] if "->" not in line]
    assert names == [
        ["TCP", "10.96.0.1:80"],
        ["TCP", "10.96.0.1:443"],
        ["UDP", "10.96.0.1:53"],
        ["SCTP", "10.96.0.1:99"],
    ]

    connections = kpx("-c", "10.96.0.1:80").splitlines()[2:]
    assert len(connections) == 5  # one of them is what persistence remembers
    assert all(" 10.96.0.1:80 " in line for line in connections)


@pytest.mark.usefixtures("table")
def test_ipvsadms_own_options_are_understood() -> None:
    assert kpx("-Ln") == kpx("-L", "-n") == kpx()
    assert kpx("-lnc") == kpx("-c")


@pytest.mark.usefixtures("traffic")
def test_the_table_is_printed_as_json() -> None:
    document = json.loads(kpx("-o", "json"))

    major, minor, patch = document["version"].split(".")
    assert kpx().startswith(f"IP Virtual Server version {major}.{minor}.{patch} (size={document['table_size']})\n")
    assert list(document["timeouts"]) == ["tcp_seconds", "tcp_fin_seconds", "udp_seconds"]
    servers = {
        (one["protocol"], one["address"], one["port"], one["fwmark"]): one for one in document["virtual_servers"]
    }
    assert len(servers) == TABLE.count("-A ")
    web = servers["TCP", "10.96.0.1", 80, None]
    assert web["persistence"] == {"timeout_seconds": 10800, "netmask": "255.255.255.255", "engine": None}
    assert {(one["address"], one["forward"], one["weight"]) for one in web["real_servers"]} == {
        ("127.0.0.1", "Masq", 1),
        ("192.168.7.7", "Masq", 0),
        ("10.9.9.9", "Tunnel", 0),
    }
    assert servers[None, None, None, 7]["family"] == "IPv6"
    assert servers["UDP", "fd00::1", 53, None]["one_packet"]
    assert servers["TCP", "10.96.0.1", 443, None]["scheduler_flags"] == ["sh-fallback", "sh-port"]
    assert json.loads(kpx("--timeout", "-o", "json")) == {"timeouts": document["timeouts"]}


@pytest.mark.usefixtures("traffic")
def test_connections_are_printed_as_json() -> None:
    document = json.loads(kpx("-c", "-o", "json"))

    assert document["complete"]
    assert len(document["connections"]) == len(kpx("-c").splitlines()) - 2
    assert 0 < document["table_entries"] <= len(document["connections"])
    (marked,) = [one for one in document["connections"] if one["protocol"] == "IP"]
    assert (marked["virtual_address"], marked["client_port"]) == ("0.0.0.5", 0)


@pytest.mark.usefixtures("traffic")
def test_a_sample_of_connections_is_told_as_one() -> None:
    done = CliRunner().invoke(app, ["ipvs", "-c", "--limit", "2"])
    assert len(done.stdout.splitlines()) == 4
    assert done.stderr.startswith("kpx ipvs: there are more; the whole table has ")

    document = json.loads(kpx("-c", "--limit", "2", "-o", "json"))
    assert (len(document["connections"]), document["complete"]) == (2, False)
    assert json.loads(kpx("-c", "10.96.0.99", "-o", "json"))["connections"] == []


@pytest.mark.usefixtures("table")
def test_a_service_that_is_not_there_is_said_to_be_missing() -> None:
    assert kpx("10.96.0.3:80", status=1) == "kpx ipvs: there is no virtual server 10.96.0.3:80\n"


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kpx", "ipvs", *arguments]


@pytest.mark.usefixtures("table")
def test_the_program_needs_the_capability_and_says_so() -> None:
    without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    done = subprocess.run([*without, *program()], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "kpx ipvs: the kernel shows IPVS only to processes with CAP_NET_ADMIN: run it as root"
    )
    # Connections are shown to everybody.
    subprocess.run([*without, *program("-c")], capture_output=True, check=True)


@pytest.mark.usefixtures("table")
def test_a_refresh_ends_well_when_it_is_interrupted() -> None:
    with subprocess.Popen(program("-w", "0.1"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(2 * kpx().count("\n") + 1)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(10) == 0
    once = kpx().splitlines(keepends=True)
    assert lines == [*once, "\n", *once]


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[int]:
    """The program on a terminal of 80 columns and 24 lines: what it writes."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    with subprocess.Popen(program(*arguments), stdout=slave, env=environment) as process:
        os.close(slave)
        try:
            yield master
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)
            os.close(master)


def until(terminal: int, text: str) -> str:
    seen = ""
    while text not in seen:
        assert select.select([terminal], [], [], 20)[0], seen
        seen += os.read(terminal, 65536).decode()
    return seen


@pytest.mark.usefixtures("traffic")
def test_a_refresh_on_a_terminal_is_drawn_in_place_and_fits() -> None:
    with on_a_terminal("--stats", "-w", "0.2") as terminal:
        first = until(terminal, "\x1b[J")
        second = until(terminal, "\x1b[J")
    assert first.startswith("\x1b[2J\x1b[H")
    assert "\x1b[2J" not in second
    lines = second.removeprefix("\x1b[H").removesuffix("\r\n\x1b[J").split("\r\n")
    assert len(lines) == 23
    assert lines[-1].startswith("... ")
    assert max(len(line.removesuffix("\x1b[K")) for line in lines) <= 80


@pytest.mark.usefixtures("table")
def test_json_is_refreshed_as_one_document_a_line() -> None:
    with subprocess.Popen(program("-c", "-w", "0.1", "-o", "json"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        documents = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert (
        documents[0]
        == documents[1]
        == {
            "connections": [],
            "complete": True,
            "table_entries": 0,
            "table_entries_exact": False,
        }
    )


def test_reading_does_not_load_ipvs() -> None:
    modules = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines() if "ip_vs" in line.split()[0]]
    unload(modules)
    try:
        for arguments in ((), ("-c",), ("--timeout",)):
            assert "the module ip_vs is not loaded" in kpx(*arguments, status=1)
        assert not loaded()
    finally:
        run(f"modprobe -a {' '.join(modules)}")


def unload(modules: list[str]) -> None:
    """Unload modules as soon as the namespaces of earlier tests have gone."""
    deadline = time.monotonic() + 20
    while subprocess.run(["modprobe", "-r", "xt_ipvs", *modules], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, Path("/proc/modules").read_text()
        time.sleep(0.2)
