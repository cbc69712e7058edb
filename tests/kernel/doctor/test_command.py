"""`kpx doctor` as people and programs call it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from kpx import lab
from kpx.lab import namespaces
from kpx.lab.topology import NODE
from tests.kernel.daemon.process import KPX
from tests.kernel.doctor.clinic import Clinic, clinic


@pytest.fixture(scope="module")
def here() -> Iterator[Clinic]:
    with clinic("nftables") as made:
        yield made


def on_a_terminal(here: Clinic, answer: str, *words: str) -> tuple[int, str]:
    """Run kpx on a terminal of 80 columns, on which somebody types an answer."""
    ours, theirs = pty.openpty()
    command = lab.command(here.place.name, NODE, [*KPX, *words])
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return process.wait(30), shown.decode()


@pytest.mark.parametrize(("answer", "status", "told"), [("y\n", 0, "fixed"), ("n\n", 3, "1 failed")])
def test_a_fix_is_made_on_a_yes(here: Clinic, answer: str, status: int, told: str) -> None:
    with here.planted("forwarding-off"):
        ended, shown = on_a_terminal(here, answer, "doctor", "clusterip", "--id", "KPX-KN-001")

    assert (ended, "Make this fix? [y/N]" in shown) == (status, True), shown
    assert "# sysctl -w net.ipv4.ip_forward=1" in shown
    assert told in shown
    assert "\x1b[31mFAIL" in shown


def test_nothing_is_changed_without_a_yes(here: Clinic) -> None:
    with here.planted("forwarding-off"):
        for words in ((), ("--fix", "--dry-run")):
            status, text = here.run("doctor", "clusterip", "--id", "KPX-KN-001", *words)
            assert (status, "# sysctl -w net.ipv4.ip_forward=1" in text, "\x1b" in text) == (3, True, False)
        status, _ = here.run("doctor", "--fix")
        assert status == 2


def test_what_others_made_is_left_alone_unless_the_check_is_named(here: Clinic) -> None:
    with here.planted("firewall"):
        status, text = here.run("doctor", "clusterip", "shop/web", "--fix", "--yes")
        assert status == 3
        assert "add --id KPX-FW-001" in text


def test_what_is_behind_a_fault_is_found_after_its_fix(here: Clinic) -> None:
    with here.planted("firewall"), here.planted("reject"):
        found = here.doctor("clusterip", "shop/web", "--fix", "--yes", "--id", "KPX-FW-001")

    assert (found.status, [one["fixed"] for one in found.report["findings"]]) == (0, [True, True])
    assert {one["fix"]["now"][0].split()[0] for one in found.report["findings"]} == {"nft", "iptables-nft"}


def test_for_other_programs(here: Clinic) -> None:
    with here.planted("forwarding-off"):
        words = ("doctor", "clusterip", "--id", "KPX-KN-001", "--id", "KPX-PX-001", "-o")
        status, xml = here.run(*words, "junit")
        (suite,) = ElementTree.fromstring(xml)
        assert (status, suite.get("failures")) == (3, "1")
        assert here.run(*words, "npd") == (1, "KPX-KN-001 IPv4 packets are not forwarded\n")
        status, text = here.run(*words, "json")
        report = json.loads(text)
        assert (status, report["apiVersion"], report["summary"]["fail"]) == (3, "kpx/v1", 1)
        assert report["findings"][-2]["evidence"] == [{"value": "0", "source": "/proc/sys/net/ipv4/ip_forward"}]


def test_cleaning_up_after_another_mode_leaves_the_rest(here: Clinic) -> None:
    foreign = '-A FORWARD -s 192.0.2.77/32 -m comment --comment "KUBE-SERVICES are mine" -j ACCEPT'
    with here.planted("old-rules"), namespaces.entered(here.place.namespace(NODE)):
        subprocess.run(["iptables-nft-restore", "-n"], input=f"*filter\n{foreign}\nCOMMIT\n", text=True, check=True)
        try:
            assert here.run("cleanup", "--keep", "kpx") == (0, "")
            rules = subprocess.run(["iptables-nft-save"], capture_output=True, text=True, check=True).stdout
            assert foreign in rules
            assert "KUBE-SVC-" not in rules
            assert here.doctor("clusterip", "shop/web").status == 0
        finally:
            subprocess.run(["iptables-nft", "-F", "FORWARD"], check=True)


@pytest.mark.parametrize(
    "words",
    [("nonsense",), ("explain", "KPX-XX-001"), ("--id", "KPX-XX-001"), ("--yes",), ("-o", "json", "--fix")],
)
def test_bad_usage_is_told_in_a_sentence(here: Clinic, words: tuple[str, ...]) -> None:
    assert here.run("doctor", *words) == (2, "")


def test_a_service_that_there_is_not(here: Clinic) -> None:
    found = here.doctor("clusterip", "shop/wbe")
    assert (found.status, [one["id"] for one in found.report["findings"]]) == (3, ["KPX-IP-001"])
    assert "is it one of shop/web" in found.finding("KPX-IP-001")["says"]


def test_words(here: Clinic) -> None:
    status, listed = here.run("doctor", "list")
    assert (status, listed.count("KPX-PX-001")) == (0, 3)
    status, explained = here.run("doctor", "explain", "kpx-ct-001")
    assert (status, "nf_conntrack_max" in explained) == (0, True)
