"""Changes to the kernel that outlive the process which makes them.

They are recorded in a file before they are made, and taken back at the end; what a process left that was killed, the
next one takes back (`leftovers`). A lock on its file tells that a process lives, also from another PID namespace.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import tempfile
from pathlib import Path
from typing import IO

import msgspec

from kpx.kernel import sysctl
from kpx.kernel.iptables.program import Iptables, IptablesError
from kpx.kernel.netlink import NetlinkError
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.objects import Table
from kpx.kernel.nft.transaction import Transaction, delete
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.kernel.sysctl import SysctlError

logger = logging.getLogger(__name__)

FOLDER = Path("/run/kpx")
_NAMESPACE = Path("/proc/thread-self/ns/net")


class Setting(msgspec.Struct, frozen=True, tag=True):
    """A setting under /proc/sys that was changed from ``former`` to ``ours``."""

    name: str
    former: str
    ours: str

    def undo(self) -> bool:
        """Set it back, unless somebody has changed it since, or it is gone."""
        try:
            if sysctl.read(self.name) == self.ours:
                sysctl.write(self.name, self.former)
        except SysctlError:
            return not sysctl.path(self.name).exists()
        return True


class AddedRule(msgspec.Struct, frozen=True, tag=True):
    """A rule of iptables: the programs that make it, its table, its chain and its words."""

    programs: Iptables
    table: str
    chain: str
    words: tuple[str, ...]

    def undo(self) -> bool:
        """Delete it, if it is there."""
        try:
            self.programs.delete(self.table, self.chain, self.words)
        except IptablesError:
            return not self.programs.has(self.table, self.chain, self.words)
        return True


class AddedTable(msgspec.Struct, frozen=True, tag=True):
    """A table of nftables that has no owner to go with."""

    family: int
    name: str

    def undo(self) -> bool:
        """Delete it, if it is there."""
        try:
            with Nft() as nft:
                nft.apply(Transaction(TableName(NfFamily(self.family), self.name), (delete(Table()),)))
        except NetlinkError as error:
            return error.errno == errno.ENOENT
        return True


Change = Setting | AddedRule | AddedTable


class Undo:
    """What this process has changed in the network namespace of the calling thread. Not for several threads at once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._changes: list[Change] = []
        self._record: tuple[IO[bytes], Path] | None = None

    def will(self, change: Change) -> None:
        """Record a change that is about to be made."""
        if self._record is None:
            self._record = _locked(self._folder)
        self._changes.append(change)
        file, _ = self._record
        file.seek(0)
        file.write(msgspec.json.encode(self._changes))
        file.flush()

    def close(self) -> None:
        """Take all changes back, the last one first. What cannot be taken back now, the next process tries."""
        if self._record is None:
            return
        file, path = self._record
        if _undone(self._changes, path):
            path.unlink(missing_ok=True)
        file.close()
        self._changes, self._record = [], None


def _locked(folder: Path) -> tuple[IO[bytes], Path]:
    """A new file of this process."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    while True:
        descriptor, name = tempfile.mkstemp(".json", f"undo-{_NAMESPACE.stat().st_ino}-", folder)
        file, path = os.fdopen(descriptor, "wb"), Path(name)
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file, path
        file.close()  # somebody took it for that of a dead process


def leftovers(folder: Path = FOLDER) -> int:
    """Take back what dead processes have left in the network namespace of the calling thread; returns how many had."""
    number = 0
    for path in sorted(folder.glob(f"undo-{_NAMESPACE.stat().st_ino}-*.json")):
        try:
            number += _taken_back(path)
        except FileNotFoundError:
            pass  # its process has just ended
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("What %s records cannot be taken back: %s", path, error)
    return number


def _taken_back(path: Path) -> bool:
    """Whether a record was that of a dead process."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # it lives
        if not path.exists():
            return False  # it has just ended, and taken back its own
        if not _undone(msgspec.json.decode(file.read() or b"[]", type=list[Change]), path):
            return False
        path.unlink()
    return True


def _undone(changes: list[Change], path: Path) -> bool:
    """Whether all was taken back."""
    left = [change for change in reversed(changes) if not change.undo()]
    for change in left:
        logger.warning("This cannot be taken back, and stays recorded in %s: %s", path, change)
    return not left
