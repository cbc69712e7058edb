"""The connections that IPVS tracks in this network namespace: /proc/net/ip_vs_conn, read row by row.

The kernel has no other interface to them. A table can hold a million rows, and the kernel walks it from its start again
for every page of 40 rows that is read: 64,000 rows take 0.6 s, 192,000 a minute (Linux 6.1). `sample` reads as much as
there is time for. Rows come in the order of a hash with a random key: the first ones are a fair sample.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import msgspec

from kpx.kernel.ipvs.table import IpvsUnavailable
from kpx.net import Family, family_of, join_port

# Of the thread, whose network namespace may be another than the process's.
_NET = Path("/proc/thread-self/net")
_ROWS_BETWEEN_LOOKS_AT_THE_CLOCK = 40


class Connection(msgspec.Struct, frozen=True, gc=False):
    """A row of the table.

    ``protocol`` is a name: TCP, UDP, SCTP; IP for what a firewall mark holds together, where ``virtual`` is the mark as
    an address (0.0.0.5). ``client_port`` 0 marks the memory of a persistent virtual server, not a connection.
    ``expires`` is in seconds; ``engine`` is the persistence engine, ``engine_data`` what it goes by.
    """

    protocol: str
    client: str
    client_port: int
    virtual: str
    virtual_port: int
    real: str
    real_port: int
    state: str
    expires: int
    engine: str = ""
    engine_data: str = ""

    @property
    def family(self) -> Family:
        """The family of client and virtual server; the real server of a tunnel may have another."""
        return family_of(self.virtual)

    def __str__(self) -> str:
        client, virtual, real = (
            join_port(self.client, self.client_port),
            join_port(self.virtual, self.virtual_port),
            join_port(self.real, self.real_port),
        )
        return f"{self.protocol} {client} -> {virtual} -> {real}"


class Sample(NamedTuple):
    """Rows of the table; ``whole`` if there are no more."""

    connections: Iterable[Connection]
    whole: bool


class Total(NamedTuple):
    """How many entries the table has; if not ``exact``, without those of persistence and of removed servers."""

    entries: int
    exact: bool


def read() -> Iterator[Connection]:
    """All rows, one by one. Raises `IpvsUnavailable`."""
    with _opened("ip_vs_conn") as file:
        for line in islice(file, 1, None):
            yield parse(line)


def sample(rows: int, seconds: float = float("inf"), wanted: Callable[[Connection], bool] | None = None) -> Sample:
    """At most so many rows (of those that are `wanted`), read for at most so many seconds. Raises `IpvsUnavailable`."""
    found: list[Connection] = []
    end = time.monotonic() + seconds
    for count, connection in enumerate(read(), start=1):
        if wanted is None or wanted(connection):
            if len(found) == rows:
                return Sample(found, whole=False)
            found.append(connection)
        if count % _ROWS_BETWEEN_LOOKS_AT_THE_CLOCK == 0 and time.monotonic() >= end:
            return Sample(found, whole=False)
    return Sample(found, whole=True)


def total() -> Total:
    """The number of rows, without reading them. Raises `IpvsUnavailable`."""
    try:
        with _opened("ip_vs_status") as file:  # recent kernels have it
            return parse_status(file.readline())
    except (IpvsUnavailable, PermissionError):
        with _opened("ip_vs") as file:
            return Total(sum(map(connections_of_real, file)), exact=False)


def parse(line: str) -> Connection:
    """The connection in a row of /proc/net/ip_vs_conn."""
    protocol, client, client_port, virtual, virtual_port, real, real_port, state, expires, *engine = line.split()
    name, data = (*engine, "", "")[:2]
    return Connection(
        protocol,
        _address(client),
        int(client_port, 16),
        _address(virtual),
        int(virtual_port, 16),
        _address(real),
        int(real_port, 16),
        state,
        int(expires),
        name,
        data,
    )


def parse_status(line: str) -> Total:
    """The total in the first line of /proc/net/ip_vs_status, ``Conns:\\t12``."""
    return Total(int(line.rpartition(":")[2]), exact=True)


def connections_of_real(line: str) -> int:
    """The connections that a line of /proc/net/ip_vs counts: those of a real server, 0 for another line."""
    fields = line.split()
    if len(fields) != 6 or fields[0] != "->" or not fields[3].isdigit():
        return 0
    return int(fields[4]) + int(fields[5])


@lru_cache(maxsize=65536)
def _address(text: str) -> str:
    """IPv4 is written as a hexadecimal number, IPv6 with all its zeros; canonical text from either."""
    if ":" in text:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text))
    return socket.inet_ntoa(bytes.fromhex(text))


def _opened(name: str) -> TextIO:
    try:
        return (_NET / name).open(encoding="ascii", errors="replace")
    except FileNotFoundError as error:
        raise IpvsUnavailable("the kernel has no IPVS (module ip_vs)") from error
