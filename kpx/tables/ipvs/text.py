"""The tables as text: what ``ipvsadm -L -n`` prints of the same state, to the character.

With one exception: a firewall mark of 2**31 or more is printed as the number that it is, not as a negative one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.types import Counters, Flag, Method, Real, RealServer, Settings, Timeouts, Virtual, VirtualServer
from kpx.net import Family, join_port
from kpx.tables.ipvs.snapshot import Row, Snapshot


class View(Enum):
    """What is printed of virtual and real servers; the values name ipvsadm's options."""

    SERVERS = ""
    STATS = "stats"
    RATE = "rate"
    THRESHOLDS = "thresholds"
    PERSISTENT = "persistent-conn"


_METHODS: dict[int, str] = {
    Method.MASQUERADE: "Masq",
    Method.LOCAL: "Local",
    Method.TUNNEL: "Tunnel",
    Method.ROUTE: "Route",
}
_METHOD_MASK = 0x7

_SCHEDULER_FLAGS = {
    "sh": {Flag.SCHED1: "sh-fallback", Flag.SCHED2: "sh-port"},
    "mh": {Flag.SCHED1: "mh-fallback", Flag.SCHED2: "mh-port"},
}
_UNNAMED_FLAGS = {Flag.SCHED1: "flag-1", Flag.SCHED2: "flag-2", Flag.SCHED3: "flag-3"}
_ANY_SCHEDULER_FLAG = Flag.SCHED1 | Flag.SCHED2 | Flag.SCHED3

_LOCAL = "Prot LocalAddress:Port"
_REMOTE = "  -> RemoteAddress:Port"
_COUNTED = "{:<33} {:>8} {:>8} {:>8} {:>8} {:>8}"
_TITLES = {
    View.SERVERS: (
        f"{_LOCAL} Scheduler Flags",
        f"{_REMOTE}           Forward Weight ActiveConn InActConn",
    ),
    View.STATS: (_COUNTED.format(_LOCAL, "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"), _REMOTE),
    View.RATE: (_COUNTED.format(_LOCAL, "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"), _REMOTE),
    View.THRESHOLDS: (f"{_LOCAL:<33} Uthreshold Lthreshold ActiveConn InActConn ", _REMOTE),
    View.PERSISTENT: (f"{_LOCAL:<33} Weight    PersistConn ActiveConn InActConn ", _REMOTE),
}

# Numbers below the first of a pair are divided by the second.
_SHORT = (
    (10**8, 1, ""),
    (10**9, 10**3, "K"),
    (10**11, 10**6, "M"),
    (10**14, 10**9, "G"),
)


def table(snapshot: Snapshot, view: View, *, exact: bool = False) -> Iterator[str]:
    """The lines of the table of virtual and real servers."""
    if snapshot.selection is None:
        major, minor, patch = snapshot.info.version
        yield f"IP Virtual Server version {major}.{minor}.{patch} (size={snapshot.info.table_size})"
    yield from _TITLES[view]
    for row in snapshot.rows:
        yield from _lines(row, view, exact)


def _lines(row: Row, view: View, exact: bool) -> Iterator[str]:
    number: Callable[[int], str] = _exact if exact else _shortened
    yield _virtual_line(row.virtual, view, number)
    for server in row.reals:
        yield f"  -> {server.real!s:<28}{_REAL_COLUMNS[view](server, number)}"


def _virtual_line(server: VirtualServer, view: View, number: Callable[[int], str]) -> str:
    if view is View.STATS:
        return f"{_name(server.virtual):<33}" + "".join(map(number, _totals(server.counters)))
    if view is View.RATE:
        return f"{_name(server.virtual):<33}" + "".join(map(number, _rates(server.counters)))
    return f"{_name(server.virtual)} {_described(server.settings, server.virtual.family)}"


def _name(virtual: Virtual) -> str:
    if virtual.mark:
        return f"FWM  {virtual.mark}" + (" IPv6" if virtual.family is Family.IPV6 else "")
    return f"{virtual.protocol:<4} {Real(virtual.address, virtual.port)}"


def _described(settings: Settings, family: Family) -> str:
    words = [settings.scheduler]
    if settings.flags & _ANY_SCHEDULER_FLAG:
        words.append(f"({','.join(scheduler_flags(settings))})")
    if settings.flags & Flag.PERSISTENT:
        words += ["persistent", str(settings.timeout)]
        if settings.mask or settings.prefix:
            words += ["mask", netmask(settings, family)]
        if settings.engine:
            words += ["pe", settings.engine]
    if settings.flags & Flag.ONE_PACKET:
        words.append("ops")
    return " ".join(words)


def scheduler_flags(settings: Settings) -> list[str]:
    """The flags that are for the scheduler, by ipvsadm's names."""
    names = _SCHEDULER_FLAGS.get(settings.scheduler, _UNNAMED_FLAGS)
    return [name for flag, name in names.items() if settings.flags & flag]


def netmask(settings: Settings, family: Family) -> str:
    """The clients that persistence keeps together: a netmask for IPv4, the length of a prefix for IPv6."""
    prefix = settings.prefix or family.bits
    return settings.mask or (str(prefix) if family is Family.IPV6 else str(ipaddress.ip_network((0, prefix)).netmask))


def method_name(server: RealServer) -> str:
    """How packets get to a real server, by ipvsadm's name."""
    return _METHODS.get(server.method & _METHOD_MASK, "")


def _servers(server: RealServer, _number: Callable[[int], str]) -> str:
    return f" {method_name(server):<7} {server.weight:<6} {server.active:<10} {server.inactive:<10}"


def _stats(server: RealServer, number: Callable[[int], str]) -> str:
    return "".join(map(number, _totals(server.counters)))


def _rate(server: RealServer, number: Callable[[int], str]) -> str:
    connections, *packets_and_bytes = _rates(server.counters)
    packets, octets = packets_and_bytes[:2], packets_and_bytes[2:]
    return "".join([f" {one:>8}" for one in (connections, *packets)] + [number(one) for one in octets])


def _thresholds(server: RealServer, _number: Callable[[int], str]) -> str:
    return f" {server.upper:<10} {server.lower:<10} {server.active:<10} {server.inactive:<10}"


def _persistent(server: RealServer, _number: Callable[[int], str]) -> str:
    return f" {server.weight:<9} {server.persistent:<11} {server.active:<10} {server.inactive:<10}"


_REAL_COLUMNS = {
    View.SERVERS: _servers,
    View.STATS: _stats,
    View.RATE: _rate,
    View.THRESHOLDS: _thresholds,
    View.PERSISTENT: _persistent,
}


def _totals(counters: Counters) -> tuple[int, ...]:
    return (
        counters.connections,
        counters.packets_in,
        counters.packets_out,
        counters.bytes_in,
        counters.bytes_out,
    )


def _rates(counters: Counters) -> tuple[int, ...]:
    return (
        counters.connections_per_second,
        counters.packets_in_per_second,
        counters.packets_out_per_second,
        counters.bytes_in_per_second,
        counters.bytes_out_per_second,
    )


def _exact(number: int) -> str:
    """Nine columns, or as many as there are digits and one space before them."""
    return f" {number:>8}"


def _shortened(number: int) -> str:
    """Nine columns: from 100 million on in thousands (K), millions (M), ... without rounding."""
    for limit, unit, suffix in _SHORT:
        if number < limit:
            return f"{number // unit}{suffix}".rjust(9)
    return f"{number // 10**12}T".rjust(9)


def timeouts(times: Timeouts) -> str:
    return f"Timeout (tcp tcpfin udp): {times.tcp} {times.tcp_fin} {times.udp}"


_CONNECTION = "{:<3} {:<6} {:<11} {:<18} {:<18} {}"
_CONNECTION_WITH_ENGINE = "{:<3} {:<6} {:<11} {:<18} {:<18} {:<16} {:<18} {}"


def connections(rows: Iterable[Connection], *, engines: bool = False) -> Iterator[str]:
    """The lines of the connections; `engines` adds the persistence engine where there is one."""
    yield "IPVS connection entries"
    title = "pro expire state       source             virtual            destination"
    yield f"{title}        pe name          pe_data" if engines else title
    for row in rows:
        yield _connection(row, engines)


def _connection(one: Connection, engines: bool) -> str:
    minutes, seconds = divmod(one.expires, 60)
    columns = (
        one.protocol,
        f"{minutes:02}:{seconds:02}",
        one.state,
        join_port(one.client, one.client_port),
        join_port(one.virtual, one.virtual_port),
        join_port(one.real, one.real_port),
    )
    if engines and one.engine_data:
        return _CONNECTION_WITH_ENGINE.format(*columns, one.engine, one.engine_data)
    return _CONNECTION.format(*columns)
