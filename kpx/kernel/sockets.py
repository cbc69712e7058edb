"""Which ports processes have sockets on, from /proc/net."""

from __future__ import annotations

import socket
from pathlib import Path

from kpx.net import packed

_NETWORK = Path("/proc/thread-self/net")
_LISTEN = "0A"
_WORD = 8


def listens(protocol: str, address: str, port: int) -> bool:
    """Whether a TCP or UDP socket takes what comes for an address and port of this network namespace."""
    names = ("", "6") if ":" not in address else ("6",)
    return any(_listens(protocol, name, address, port) for name in names)


def _listens(protocol: str, suffix: str, address: str, port: int) -> bool:
    file = _NETWORK / f"{protocol}{suffix}"
    if not file.exists():
        return False
    for line in file.read_text().splitlines()[1:]:
        words = line.split()
        local, _, number = words[1].partition(":")
        if int(number, 16) != port or (protocol == "tcp" and words[3] != _LISTEN):
            continue
        bound = _address(local)
        if not any(bound) or bound in (packed(address), _MAPPED + packed(address)):
            return True
    return False


_MAPPED = bytes(10) + b"\xff\xff"


def _address(text: str) -> bytes:
    """An address as /proc prints it: words of 4 bytes, each a number in the machine's order."""
    words = (int(text[at : at + _WORD], 16) for at in range(0, len(text), _WORD))
    return b"".join(socket.ntohl(word).to_bytes(4, "big") for word in words)
