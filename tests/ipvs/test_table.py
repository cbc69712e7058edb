"""The IPVS table through kpx and through ipvsadm: both tell the same, whoever wrote it."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from kpx.kernel.ipvs.table import (
    Change,
    Ipvs,
    add_real,
    add_virtual,
    delete_real,
    delete_virtual,
    loaded,
    set_real,
    set_virtual,
)
from kpx.kernel.ipvs.types import Flag, Method, Real, Settings, Timeouts, Virtual
from kpx.net import Family

TCP = Virtual("10.96.0.1", 80, "TCP")
UDP6 = Virtual("fd00::1", 53, "UDP")
SCTP = Virtual("10.96.0.1", 99, "SCTP")
MARK = Virtual("", 0, "", 5)
MARK6 = Virtual("", 0, "", 6, Family.IPV6)
ALL = (TCP, UDP6, SCTP, MARK, MARK6)


def ipvsadm(arguments: str) -> list[str]:
    """What ipvsadm prints, without its titles and without spaces at the ends of lines."""
    done = subprocess.run(["ipvsadm", *arguments.split()], capture_output=True, text=True, check=True)
    return [line.rstrip() for line in done.stdout.splitlines()[3:]]


def apply(*changes: Change) -> None:
    with Ipvs() as ipvs:
        assert not ipvs.apply(changes)


def settings(virtual: Virtual) -> Settings:
    with Ipvs() as ipvs:
        found = ipvs.virtual(virtual)
    assert found is not None
    return found.settings


def reals(virtual: Virtual) -> dict[str, int]:
    """The weights of the real servers."""
    with Ipvs() as ipvs:
        return {str(server.real): server.weight for server in ipvs.reals(virtual)}


def test_ipvs_is_at_work_here_and_its_version_is_known() -> None:
    assert loaded()
    with Ipvs() as ipvs:
        assert ipvs.info().version >= (1, 2, 1)
        assert ipvs.info().table_size >= 256


def test_an_empty_table_is_read() -> None:
    with Ipvs() as ipvs:
        assert ipvs.virtuals() == []
        assert ipvs.virtual(TCP) is None
        assert ipvs.reals(TCP) == []


def test_virtual_servers_of_every_kind_are_made_and_read_back() -> None:
    apply(*(add_virtual(virtual, Settings("wrr")) for virtual in ALL))

    with Ipvs() as ipvs:
        assert {one.virtual for one in ipvs.virtuals()} == set(ALL)
        assert [ipvs.virtual(one).virtual for one in ALL] == list(ALL)
    assert ipvsadm("-Ln") == [
        "TCP  10.96.0.1:80 wrr",
        "SCTP 10.96.0.1:99 wrr",
        "UDP  [fd00::1]:53 wrr",
        "FWM  5 wrr",
        "FWM  6 IPv6 wrr",
    ]


@pytest.mark.parametrize(
    ("virtual", "asked", "printed"),
    [
        (TCP, Settings("rr", Flag.PERSISTENT, 10800), "rr persistent 10800"),
        (TCP, Settings("rr", Flag.PERSISTENT, 60, 24), "rr persistent 60 mask 255.255.255.0"),
        (TCP, Settings("rr", Flag.PERSISTENT, 60, mask="0.0.0.0"), "rr persistent 60 mask 0.0.0.0"),
        (UDP6, Settings("rr", Flag.PERSISTENT, 60, 64), "rr persistent 60 mask 64"),
        (UDP6, Settings("rr", Flag.ONE_PACKET), "rr ops"),
        (TCP, Settings("mh", Flag.SCHED2), "mh (mh-port)"),
        (TCP, Settings("sh", Flag.SCHED1 | Flag.SCHED2), "sh (sh-fallback,sh-port)"),
        (MARK6, Settings("wlc", Flag.PERSISTENT, 360, 128), "wlc persistent 360"),
    ],
)
def test_settings_are_what_was_asked_for(virtual: Virtual, asked: Settings, printed: str) -> None:
    apply(add_virtual(virtual, asked))

    assert ipvsadm("-Ln")[0].endswith(f" {printed}")
    assert settings(virtual).alike(
        Settings(asked.scheduler, asked.flags, asked.timeout, asked.prefix % 128, "", asked.mask)
    )


def test_what_ipvsadm_made_is_read() -> None:
    ipvsadm("-A -t 10.96.0.1:80 -s sh -b sh-port -p 77 -M 255.255.0.0")
    ipvsadm("-a -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 50")
    ipvsadm("-a -t 10.96.0.1:80 -r 10.0.0.2 -g -w 0")
    ipvsadm("-a -t 10.96.0.1:80 -r [fd00::9]:80 -i")

    assert settings(TCP).alike(Settings("sh", Flag.PERSISTENT | Flag.SCHED2, 77, 16))
    with Ipvs() as ipvs:
        found = {server.real: server for server in ipvs.reals(TCP)}
    masqueraded, routed = found[Real("10.0.0.1", 8080)], found[Real("10.0.0.2", 80)]
    assert (masqueraded.method, masqueraded.weight) == (Method.MASQUERADE, 3)
    assert (masqueraded.upper, masqueraded.lower) == (100, 50)
    assert (routed.method, routed.weight) == (Method.ROUTE, 0)
    assert found[Real("fd00::9", 80)].method == Method.TUNNEL


@pytest.mark.parametrize(
    ("virtual", "addresses"), [(TCP, ("10.0.0.1", "10.0.0.2")), (UDP6, ("fd00::a", "fd00::b")), (MARK, ("10.0.0.1",))]
)
def test_real_servers_come_and_go(virtual: Virtual, addresses: tuple[str, ...]) -> None:
    servers = [Real(address, 80) for address in addresses]
    apply(add_virtual(virtual, Settings()), *(add_real(virtual, server, 5) for server in servers))
    assert reals(virtual) == {str(server): 5 for server in servers}

    apply(set_real(virtual, servers[0], 0))
    assert reals(virtual)[str(servers[0])] == 0

    apply(delete_real(virtual, servers[0]))
    assert list(reals(virtual)) == [str(server) for server in servers[1:]]


def test_a_virtual_server_changes_and_keeps_its_real_servers() -> None:
    server = Real("10.0.0.1", 80)
    apply(add_virtual(TCP, Settings("rr", Flag.PERSISTENT, 60)), add_real(TCP, server))

    apply(set_virtual(TCP, Settings("wlc")))

    assert settings(TCP).alike(Settings("wlc"))
    assert reals(TCP) == {str(server): 1}


def test_a_virtual_server_goes_with_its_real_servers() -> None:
    apply(add_virtual(TCP, Settings()), add_virtual(UDP6, Settings()), add_real(TCP, Real("10.0.0.1", 80)))

    apply(delete_virtual(TCP))

    assert ipvsadm("-Ln") == ["UDP  [fd00::1]:53 rr"]


def test_each_refusal_in_a_long_pipeline_is_told_by_its_place() -> None:
    virtuals = [Virtual(f"10.96.{number // 250}.{number % 250 + 1}", 80, "TCP") for number in range(450)]
    there = virtuals[::7]
    apply(*(add_virtual(virtual, Settings()) for virtual in there))

    changes = [add_virtual(virtual, Settings()) for virtual in virtuals]
    changes += [delete_virtual(UDP6), add_virtual(SCTP, Settings("no-such")), add_real(UDP6, Real("fd00::a", 1))]
    with Ipvs() as ipvs:
        refused = ipvs.apply(changes)

        assert {place: one.code for place, one in refused.items()} == {
            **{place: errno.EEXIST for place in range(0, 450, 7)},
            450: errno.ESRCH,
            451: errno.ENOENT,
            452: errno.ESRCH,
        }
        assert len(ipvs.virtuals()) == 450  # the others are made, and the connection goes on


def test_a_change_says_what_it_is() -> None:
    assert str(add_real(UDP6, Real("fd00::a", 1))) == "NEW_DEST UDP [fd00::1]:53 -> [fd00::a]:1"
    assert str(delete_virtual(MARK)) == "DEL_SERVICE FWM 5"


def test_time_outs_are_set_one_by_one() -> None:
    with Ipvs() as ipvs:
        before = ipvs.timeouts()
        ipvs.set_timeouts(Timeouts(udp=30))
        assert ipvs.timeouts() == before._replace(udp=30)
        ipvs.set_timeouts(Timeouts(120, 20, 10))
        assert ipvs.timeouts() == (120, 20, 10)
    done = subprocess.run(["ipvsadm", "-L", "--timeout"], capture_output=True, text=True, check=True)
    assert done.stdout == "Timeout (tcp tcpfin udp): 120 20 10\n"


def test_without_the_capability_the_table_is_not_shown() -> None:
    # The process's: the test's thread must come back to its namespace.
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", sys.executable, "-c", _READ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{errno.EPERM}\n", done.stderr


_READ = """
from kpx.kernel.ipvs.table import Ipvs
from kpx.kernel.netlink import NetlinkError
try:
    Ipvs().virtuals()
except NetlinkError as error:
    print(error.errno)
"""
