"""Which ports processes have sockets on, and whose they are, from /proc."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kpx.net import canonical_ip, packed

_NETWORK = Path("/proc/thread-self/net")
_LISTEN = "0A"
_WORD = 8


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that takes what comes for a port; ``address`` is where it is bound, ``::`` or ``0.0.0.0`` for all."""

    address: str
    inode: int


def listens(protocol: str, address: str, port: int) -> bool:
    """Whether a TCP or UDP socket takes what comes for an address and port of this network namespace."""
    names = ("", "6") if ":" not in address else ("6",)
    return any(
        not any(bound) or bound in (packed(address), _MAPPED + packed(address))
        for name in names
        for _, bound, _ in _listening(protocol, name, port)
    )


def listening(protocol: str, port: int) -> list[Listening]:
    """The TCP or UDP sockets of this network namespace that take what comes for a port, on whatever address."""
    return [one for number, one in all_listening(protocol, port) if number == port]


def all_listening(protocol: str, port: int = 0) -> list[tuple[int, Listening]]:
    """All such sockets, with their ports; or those of one port."""
    return [
        (number, Listening(_text(bound), inode))
        for name in ("", "6")
        for number, bound, inode in _listening(protocol, name, port)
    ]


def _text(bound: bytes) -> str:
    return canonical_ip(socket.inet_ntop(socket.AF_INET6 if len(bound) > 4 else socket.AF_INET, bound)) or ""


def owner(inode: int) -> int | None:
    """A process that has a socket open, of those that can be seen."""
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(one.readlink()) == wanted for one in (process / "fd").iterdir()):
                return int(process.name)
    return None


def _listening(protocol: str, suffix: str, port: int) -> Iterator[tuple[int, bytes, int]]:
    """The ports, those of one or all (0), the addresses, packed, on which sockets take what comes, and their inodes."""
    file = _NETWORK / f"{protocol}{suffix}"
    if not file.exists():
        return
    for line in file.read_text().splitlines()[1:]:
        words = line.split()
        local, _, number = words[1].partition(":")
        if port in (0, int(number, 16)) and (protocol != "tcp" or words[3] == _LISTEN):
            yield int(number, 16), _address(local), int(words[9])


_MAPPED = bytes(10) + b"\xff\xff"


def _address(text: str) -> bytes:
    """An address as /proc prints it: words of 4 bytes, each a number in the machine's order."""
    words = (int(text[at : at + _WORD], 16) for at in range(0, len(text), _WORD))
    return b"".join(socket.ntohl(word).to_bytes(4, "big") for word in words)
