"""What outlives a process is taken back: by itself, or, if it was killed, by the next one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kpx.kernel import sysctl
from kpx.kernel.iptables.program import Iptables, Variant
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.objects import Table
from kpx.kernel.nft.transaction import Transaction, add
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.kernel.undo import AddedRule, AddedTable, Setting, Undo, leftovers
from kpx.net import Family

LOGGER = "net/netfilter/nf_log/2"
TABLE = TableName(NfFamily.INET, "kpx-test")
RULE = ("-d", "192.0.2.1/32", "-p", "tcp", "-j", "TRACE")
PROGRAMS = Iptables(Family.IPV4, Variant.LEGACY)


def change(undo: Undo) -> None:
    """One change of each sort."""
    undo.will(Setting(LOGGER, sysctl.read(LOGGER), "nfnetlink_log"))
    sysctl.write(LOGGER, "nfnetlink_log")
    undo.will(AddedTable(TABLE.family, TABLE.name))
    with Nft() as nft:
        nft.apply(Transaction(TABLE, (add(Table()),)))
    undo.will(AddedRule(PROGRAMS, "raw", "PREROUTING", RULE))
    PROGRAMS.insert("raw", "PREROUTING", RULE)


def state() -> tuple[str, str, str]:
    return sysctl.read(LOGGER), run("nft", "list", "tables"), run("iptables-legacy", "-t", "raw", "-S")


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def in_a_process_that_is_killed(work: Callable[[], None]) -> None:
    child = os.fork()
    if not child:
        work()
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)


@pytest.fixture
def before() -> tuple[str, str, str]:
    return state()


def test_at_its_end(before: tuple[str, str, str], tmp_path: Path) -> None:
    undo = Undo(tmp_path)
    change(undo)
    assert leftovers(tmp_path) == 0  # it lives
    assert all(now != then for now, then in zip(state(), before, strict=True))
    undo.close()

    assert state() == before
    assert list(tmp_path.iterdir()) == []


def test_after_it_was_killed(before: tuple[str, str, str], tmp_path: Path) -> None:
    in_a_process_that_is_killed(lambda: change(Undo(tmp_path)))
    assert all(now != then for now, then in zip(state(), before, strict=True))

    assert leftovers(tmp_path) == 1

    assert state() == before
    assert list(tmp_path.iterdir()) == []
    assert leftovers(tmp_path) == 0


def test_what_somebody_else_has_set_since_stays(tmp_path: Path) -> None:
    in_a_process_that_is_killed(lambda: change(Undo(tmp_path)))
    run("iptables-legacy", "-t", "raw", "-F")
    run("nft", "delete", "table", "inet", TABLE.name)
    sysctl.write(LOGGER, "NONE")

    assert leftovers(tmp_path) == 1
    assert sysctl.read(LOGGER) == "NONE"


def test_of_another_network_namespace_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "undo-1-x.json").write_text('[{"type":"Setting","name":"kernel/hostname","former":"x","ours":"y"}]')

    assert leftovers(tmp_path) == 0
    assert (tmp_path / "undo-1-x.json").exists()


def test_a_record_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inode = Path("/proc/thread-self/ns/net").stat().st_ino
    (tmp_path / f"undo-{inode}-x.json").write_text("{")

    assert leftovers(tmp_path) == 0
    assert "cannot be taken back" in caplog.text
