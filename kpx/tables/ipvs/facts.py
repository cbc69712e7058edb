"""The tables as JSON values. docs/json.md describes them: fields are added, never renamed."""

from __future__ import annotations

from kpx.kernel.ipvs.connections import Connection
from kpx.kernel.ipvs.types import Counters, Flag, RealServer, Timeouts, VirtualServer
from kpx.tables.ipvs.snapshot import Row, Snapshot
from kpx.tables.ipvs.text import method_name, netmask, scheduler_flags


def table(snapshot: Snapshot) -> dict[str, object]:
    return {
        "version": ".".join(map(str, snapshot.info.version)),
        "table_size": snapshot.info.table_size,
        "timeouts": timeouts(snapshot.timeouts),
        "virtual_servers": [_row(row) for row in snapshot.rows],
    }


def timeouts(times: Timeouts) -> dict[str, object]:
    return {"tcp_seconds": times.tcp, "tcp_fin_seconds": times.tcp_fin, "udp_seconds": times.udp}


def _row(row: Row) -> dict[str, object]:
    virtual, settings = row.virtual.virtual, row.virtual.settings
    return {
        "family": virtual.family.value,
        "protocol": virtual.protocol or None,
        "address": virtual.address or None,
        "port": None if virtual.mark else virtual.port,
        "fwmark": virtual.mark or None,
        "scheduler": settings.scheduler,
        "scheduler_flags": scheduler_flags(settings),
        "one_packet": bool(settings.flags & Flag.ONE_PACKET),
        "persistence": _persistence(row.virtual),
        **_counted(row.virtual.counters),
        "real_servers": [_real(server) for server in row.reals],
    }


def _persistence(server: VirtualServer) -> dict[str, object] | None:
    settings = server.settings
    if not settings.flags & Flag.PERSISTENT:
        return None
    return {
        "timeout_seconds": settings.timeout,
        "netmask": netmask(settings, server.virtual.family),
        "engine": settings.engine or None,
    }


def _real(server: RealServer) -> dict[str, object]:
    return {
        "address": server.real.address,
        "port": server.real.port,
        "forward": method_name(server),
        "weight": server.weight,
        "active_connections": server.active,
        "inactive_connections": server.inactive,
        "persistent_connections": server.persistent,
        "upper_threshold": server.upper,
        "lower_threshold": server.lower,
        **_counted(server.counters),
    }


def _counted(counters: Counters) -> dict[str, object]:
    return {
        "totals": {
            "connections": counters.connections,
            "packets_in": counters.packets_in,
            "packets_out": counters.packets_out,
            "bytes_in": counters.bytes_in,
            "bytes_out": counters.bytes_out,
        },
        "per_second": {
            "connections": counters.connections_per_second,
            "packets_in": counters.packets_in_per_second,
            "packets_out": counters.packets_out_per_second,
            "bytes_in": counters.bytes_in_per_second,
            "bytes_out": counters.bytes_out_per_second,
        },
    }


def connection(one: Connection) -> dict[str, object]:
    return {
        "protocol": one.protocol,
        "client_address": one.client,
        "client_port": one.client_port,
        "virtual_address": one.virtual,
        "virtual_port": one.virtual_port,
        "real_address": one.real,
        "real_port": one.real_port,
        "state": one.state,
        "expires_seconds": one.expires,
        "engine": one.engine or None,
        "engine_data": one.engine_data or None,
    }
