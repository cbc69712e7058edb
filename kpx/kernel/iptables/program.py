"""The iptables programs of a node: legacy or nft, IPv4 or IPv6.

Rules are read with ``iptables-save`` and changed with ``iptables-restore``, as every other tool on a node does: the
restore program takes the xtables lock and speaks to both kernel interfaces.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from kpx.net import Family

# The longest that a program waits for the xtables lock, in seconds.
LOCK_SECONDS = 5
_PATIENCE_SECONDS = 300
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

    def save(self, table: str | None = None) -> Iterator[str]:
        """The lines of ``iptables-save``, without line ends, as they are printed.

        Raises `IptablesError` at the end if the program failed: what was read before is then not the whole.
        """
        command = [self.program("save"), *(["-t", table] if table else [])]
        process = _popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                yield line.rstrip("\n")
            complaint = process.stderr.read().strip()
        if process.returncode:
            raise IptablesError(f"{' '.join(command)} failed: {complaint or f'status {process.returncode}'}")

    def restore(self, lines: Iterable[str]) -> int:
        """Apply restore input; chains that it does not name stay as they are. Each table in it is all or nothing.

        Returns the id of the process that did it. Raises `IptablesError` with what the program said, and the lines
        around the one that it refused.
        """
        command = [self.program("restore"), "-w", str(LOCK_SECONDS), "--noflush"]
        text = "\n".join(lines) + "\n"
        process = _popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = _communicate(process, text)
        if process.returncode:
            raise IptablesError(f"{command[0]} failed: {output.strip()}{_context(text, output)}", process.pid)
        return process.pid

    def supported(self) -> bool:
        """Whether the kernel and the programs can do NAT in this family."""
        try:
            _run([self.program(), "-w", str(LOCK_SECONDS), "-S", "POSTROUTING", "-t", "nat"])
        except IptablesError:
            return False
        return True


def _context(text: str, output: str) -> str:
    """The refused line with the three before and after it, numbered."""
    found = _FAILED_LINE.search(output)
    if not found:
        return ""
    lines, number = text.splitlines(), int(found[1])
    first = max(number - 4, 0)
    return "".join(f"\n  {n}: {line}" for n, line in enumerate(lines[first : number + 3], first + 1))


def _run(command: list[str]) -> str:
    process = _popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, complaint = _communicate(process)
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


def _communicate(process: subprocess.Popen[str], text: str | None = None) -> tuple[str, str]:
    """Wait for the end of a program; one that hangs is killed, so that the other family goes on."""
    try:
        return process.communicate(text, timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise IptablesError(f"{process.args!r} did not end within {_PATIENCE_SECONDS} s", process.pid) from None


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


def _has_legacy_tables(family: Family, table: str = "") -> bool:
    """Whether the legacy kernel interface has tables, or a certain one."""
    tables = _LEGACY_TABLES[family]
    names = tables.read_text().split() if tables.exists() else []
    return table in names if table else bool(names)


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
