"""The iptables programs of a node: legacy or nft, IPv4 or IPv6.

Rules are read with ``iptables-save`` and changed with ``iptables-restore``, as every other tool on a node does: the
restore program takes the xtables lock and speaks to both kernel interfaces.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO

from kpx.net import Family

# The longest that a program waits for the xtables lock, in seconds.
LOCK_SECONDS = 5
_PATIENCE_SECONDS = 300
# How much input may wait for a program, in bytes: it works on that while the lines that follow are made. No more is
# granted to everybody (pipe(7)).
_PIPE_BYTES = 1 << 20
# Input is written so many lines at a time, and the last ones are kept, more than may wait, to show what was refused.
_LINES_PER_WRITE = 1000
_WRITES_KEPT = 32
_VERSION = re.compile(r"v(\d+(?:\.\d+)+)")
_FAILED_LINE = re.compile(r"line:? (\d+)")


class Variant(Enum):
    """The kernel interface behind the programs: x_tables or nf_tables."""

    LEGACY = "legacy"
    NFT = "nft"


class IptablesError(Exception):
    """An iptables program failed or is missing; the text is what it said, `process` the id that it had."""

    def __init__(self, text: str, process: int = 0) -> None:
        super().__init__(text)
        self.process = process


@dataclass(frozen=True)
class Iptables:
    """The programs of one variant and family; `plain` where they do not carry the variant in their names."""

    family: Family
    variant: Variant
    plain: bool = False

    def program(self, action: str = "") -> str:
        """The name of a program: ``iptables-nft-restore`` for the action ``restore``."""
        base = "iptables" if self.family is Family.IPV4 else "ip6tables"
        return "-".join(filter(None, (base, "" if self.plain else self.variant.value, action)))

    @cached_property
    def version(self) -> tuple[int, ...]:
        """The version of the programs, as numbers."""
        found = _VERSION.search(_run([self.program(), "--version"]))
        return tuple(map(int, found[1].split("."))) if found else (0,)

    def save(self, table: str | None = None, *, counters: bool = False) -> Iterator[str]:
        """The lines of ``iptables-save``, without line ends, as they are printed; with `counters`, each rule's first.

        Raises `IptablesError` at the end if the program failed: what was read before is then not the whole.
        """
        command = [self.program("save"), *(["-c"] if counters else []), *(["-t", table] if table else [])]
        process = _popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                yield line.rstrip("\n")
            complaint = process.stderr.read().strip()
        if process.returncode:
            raise IptablesError(f"{' '.join(command)} failed: {complaint or f'status {process.returncode}'}")

    def saved(self, table: str) -> str:
        """What ``iptables-save`` prints of one table, with the counters of its rules. Raises `IptablesError`."""
        return _run([self.program("save"), "-c", "-t", table])

    def listed(self, table: str, chain: str) -> list[str]:
        """The rules of one chain, with their counters (``-c packets bytes``). Raises `IptablesError`.

        The nft variant reads that chain alone from the kernel, the legacy one always the table.
        """
        text = _run([self.program(), "-w", str(LOCK_SECONDS), "-t", table, "-v", "-S", chain])
        return [line for line in text.splitlines() if line.startswith("-A ")]

    def insert(self, table: str, chain: str, words: Sequence[str]) -> None:
        """Put a rule at the begin of a chain. Raises `IptablesError`."""
        _run([self.program(), "-w", str(LOCK_SECONDS), "-t", table, "-I", chain, *words])

    def delete(self, table: str, chain: str, words: Sequence[str]) -> None:
        """Delete a rule that is made of these words. Raises `IptablesError`, also where there is none."""
        _run([self.program(), "-w", str(LOCK_SECONDS), "-t", table, "-D", chain, *words])

    def has(self, table: str, chain: str, words: Sequence[str]) -> bool:
        """Whether there is a rule that is made of these words; where that cannot be known, there is."""
        try:
            _run([self.program(), "-w", str(LOCK_SECONDS), "-t", table, "-C", chain, *words])
        except IptablesError as error:
            return "exist" not in str(error) and "No chain" not in str(error)
        return True

    def restore(self, lines: Iterable[str]) -> int:
        """Apply restore input; chains that it does not name stay as they are. Each table in it is all or nothing.

        The program reads the lines while they are made. Returns the id of the process that did it. Raises
        `IptablesError` with what the program said, and the lines around the one that it refused.
        """
        command = [self.program("restore"), "-w", str(LOCK_SECONDS), "--noflush"]
        given = _Input(lines)
        # A file takes all that the program says, however long it is not read.
        with os.fdopen(os.memfd_create("output"), encoding="utf-8", errors="surrogateescape") as told:
            process = _popen(command, stdin=subprocess.PIPE, stdout=told.fileno(), stderr=subprocess.STDOUT)
            with _limited(process):
                assert process.stdin is not None
                given.write_to(process.stdin)
            told.seek(0)
            output = told.read().strip()
        if process.returncode:
            raise IptablesError(f"{command[0]} failed: {output}{given.around_failure(output)}", process.pid)
        return process.pid

    def supported(self) -> bool:
        """Whether the kernel and the programs can do NAT in this family."""
        try:
            _run([self.program(), "-w", str(LOCK_SECONDS), "-S", "POSTROUTING", "-t", "nat"])
        except IptablesError:
            return False
        return True


class _Input:
    """The lines that a program is given, of which the last ones are kept."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._kept: deque[list[str]] = deque(maxlen=_WRITES_KEPT)
        self._count = 0

    def write_to(self, pipe: IO[str]) -> None:
        """Write all lines, or as many as are taken, and close the pipe."""
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        # A program that ends early says why.
        with suppress(BrokenPipeError), pipe:
            while some := list(islice(self._lines, _LINES_PER_WRITE)):
                self._kept.append(some)
                self._count += len(some)
                pipe.write("\n".join(some) + "\n")
                pipe.flush()

    def around_failure(self, output: str) -> str:
        """The line that the program says it refused, with the three before and after it, numbered."""
        found = _FAILED_LINE.search(output)
        if not found:
            return ""
        kept, number = list(chain.from_iterable(self._kept)), int(found[1])
        numbered = enumerate(kept, self._count - len(kept) + 1)
        return "".join(f"\n  {n}: {line}" for n, line in numbered if abs(n - number) <= 3)


@contextmanager
def _limited(process: subprocess.Popen[str]) -> Iterator[None]:
    """Wait for the end of a program; one that hangs is killed, so that the other family goes on."""
    timer = threading.Timer(_PATIENCE_SECONDS, process.kill)
    timer.start()
    try:
        yield
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        hung = not timer.is_alive()
        timer.cancel()
    if hung:
        raise IptablesError(f"{process.args!r} did not end within {_PATIENCE_SECONDS} s", process.pid)


def _run(command: list[str]) -> str:
    process = _popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with _limited(process):
        output, complaint = process.communicate()
    if process.returncode:
        raise IptablesError(f"{' '.join(command)} failed: {complaint.strip() or f'status {process.returncode}'}")
    return output


def _popen(command: list[str], *, stdout: int, stderr: int, stdin: int | None = None) -> subprocess.Popen[str]:
    try:
        # Rules of others hold whatever bytes they like in their comments.
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, encoding="utf-8", errors="surrogateescape"
        )
    except FileNotFoundError:
        raise IptablesError(f"{command[0]} is not installed: install the package iptables") from None


# Chains that name the variant which the kubelet, or a former proxy, uses; all are, also, in the smallest of tables.
_HINT_TABLE = "mangle"
_HINTS = (":KUBE-IPTABLES-HINT ", ":KUBE-KUBELET-CANARY ", ":KUBE-PROXY-CANARY ")
_NETWORK = Path("/proc/thread-self/net")
_LEGACY_TABLES = {Family.IPV4: _NETWORK / "ip_tables_names", Family.IPV6: _NETWORK / "ip6_tables_names"}


def find(family: Family, among: Family | None = None) -> Iptables:
    """The programs that the node's other rules were made with.

    The variant in which the kubelet left its hint chains, else the one with more rules, else nft. Tables of the legacy
    kernel interface that do not exist are not brought into being by looking. Both families use one variant: `among`
    names the family to look at. Raises `IptablesError` if no iptables is installed.
    """
    looked_at = among or family
    installed = [variant for variant in Variant if _installed(family, variant)]
    if not installed:
        return _plain(family)
    hinted = [variant for variant in installed if _hinted(Iptables(looked_at, variant))]
    if len(hinted) == 1:
        return Iptables(family, hinted[0])
    # A kernel may lack the interface of programs that are installed.
    able = [one for one in hinted or installed if one is Variant.LEGACY or Iptables(looked_at, one).supported()]
    best = max(
        able or hinted or installed,
        key=lambda variant: (_rules(Iptables(looked_at, variant)), variant is Variant.NFT),
    )
    return Iptables(family, best)


def with_table(family: Family, table: str) -> list[Iptables]:
    """The programs of one family that print a table of that name; legacy ones only where the kernel has the table."""
    found = [Iptables(family, variant) for variant in Variant if _installed(family, variant)] or [_plain(family)]
    return [one for one in found if one.variant is Variant.NFT or _has_legacy_tables(family, table)]


def installed() -> list[Iptables]:
    """The programs of every family and variant that can have rules on the node.

    Left out are legacy ones whose kernel tables do not exist, since looking at those would bring them into being, and
    those whose interface the kernel lacks.
    """
    found = [Iptables(family, variant) for family in Family for variant in Variant if _installed(family, variant)]
    candidates = found or [_plain(family) for family in Family]
    return [one for one in candidates if _can_have_rules(one)]


def _can_have_rules(iptables: Iptables) -> bool:
    if iptables.variant is Variant.LEGACY:
        return _has_legacy_tables(iptables.family)
    try:
        for _ in iptables.save("filter"):
            pass
    except IptablesError:
        return False
    return True


def legacy_tables(family: Family) -> list[str]:
    """The tables that the legacy kernel interface has; none is brought into being by asking."""
    tables = _LEGACY_TABLES[family]
    return tables.read_text().split() if tables.exists() else []


def _has_legacy_tables(family: Family, table: str = "") -> bool:
    """Whether the legacy kernel interface has tables, or a certain one."""
    names = legacy_tables(family)
    return table in names if table else bool(names)


def programs(family: Family, variant: Variant) -> Iptables | None:
    """The programs of a variant, or None if they are not installed."""
    if _installed(family, variant):
        return Iptables(family, variant)
    try:
        plain = _plain(family)
    except IptablesError:
        return None
    return plain if plain.variant is variant else None


def _installed(family: Family, variant: Variant) -> bool:
    return shutil.which(Iptables(family, variant).program("restore")) is not None


def _plain(family: Family) -> Iptables:
    """The programs of a system that has one variant only, without its name in theirs."""
    plain = Iptables(family, Variant.NFT, plain=True)
    text = _run([plain.program(), "--version"])
    return plain if "nf_tables" in text else Iptables(family, Variant.LEGACY, plain=True)


def _hinted(iptables: Iptables) -> bool:
    return any([line.startswith(_HINTS) for line in _saved(iptables, _HINT_TABLE)])


def _rules(iptables: Iptables) -> int:
    return sum(line.startswith("-A") for line in _saved(iptables))


def _saved(iptables: Iptables, table: str = "") -> Iterator[str]:
    """The lines of ``iptables-save`` as far as it gets, without bringing legacy tables into being."""
    if iptables.variant is Variant.LEGACY and not _has_legacy_tables(iptables.family, table):
        return
    with suppress(IptablesError):
        yield from iptables.save(table or None)
