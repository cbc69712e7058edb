"""The guest has what the other tests here need, and it works."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from kpx.kernel.iptables.program import Variant, find
from kpx.net import Family

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "dh", "lblc", "lblcr", "fo", "ovf")


def run(command: str) -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture
def service() -> tuple[str, int]:
    """A virtual service without a server, its address on a dummy device."""
    run("ip link add kube-ipvs0 type dummy")
    run("ip address add 10.96.0.1/32 dev kube-ipvs0")
    run("ipvsadm -A -t 10.96.0.1:80 -s rr")
    return "10.96.0.1", 80


def test_these_tests_run_in_a_guest() -> None:
    assert os.uname().nodename == "uml"


def test_ipvs_leads_a_connection_to_a_server(service: tuple[str, int]) -> None:
    run("ipvsadm -a -t 10.96.0.1:80 -r 127.0.0.1:8080 -m")
    with (
        socket.create_server(("127.0.0.1", 8080)) as server,
        socket.create_connection(service, timeout=5),
        server.accept()[0] as accepted,
    ):
        assert accepted.getsockname() == ("127.0.0.1", 8080)


def test_ipvs_refuses_a_connection_where_there_is_no_server(service: tuple[str, int]) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(service, timeout=5)


def test_ipvs_has_all_schedulers() -> None:
    for number, scheduler in enumerate(SCHEDULERS, 1):
        run(f"ipvsadm -A -t 10.96.0.{number}:80 -s {scheduler}")
    listed = [line.split()[:3] for line in run("ipvsadm -Ln").splitlines()[3:]]
    assert sorted(listed) == sorted(
        ["TCP", f"10.96.0.{number}:80", scheduler] for number, scheduler in enumerate(SCHEDULERS, 1)
    )


def test_the_programs_of_an_interface_that_the_kernel_lacks_are_not_chosen() -> None:
    assert find(Family.IPV4).variant is Variant.LEGACY


def test_rules_of_legacy_iptables_look_into_ip_sets() -> None:
    assert "legacy" in run("iptables --version")
    run("ip address add 10.96.0.1 dev lo")
    run("ipset create services hash:ip,port")
    run("ipset add services 10.96.0.1,udp:53")
    run("iptables -A OUTPUT -m set --match-set services dst,dst -j DROP")
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("10.96.0.1", 54))
        with pytest.raises(PermissionError):
            sender.sendto(b"", ("10.96.0.1", 53))
