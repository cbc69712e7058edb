"""Rows of the connection table, as kernels write them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kpx.kernel.ipvs.connections import Connection, Total, connections_of_real, parse, parse_status
from kpx.net import Family

# Linux 6.1.
ROWS = {
    "TCP 0A600001 C308 0A600001 0050 7F000001 1F90 ESTABLISHED     899\n": Connection(
        "TCP", "10.96.0.1", 49928, "10.96.0.1", 80, "127.0.0.1", 8080, "ESTABLISHED", 899
    ),
    "TCP 0A600000 0000 0A600001 0050 7F000001 1F90 ASSURED          99\n": Connection(
        "TCP", "10.96.0.0", 0, "10.96.0.1", 80, "127.0.0.1", 8080, "ASSURED", 99
    ),
    "UDP fd00:0000:0000:0000:0000:0000:0000:0001 8828 fd00:0000:0000:0000:0000:0000:0000:0002 0035 7F000001 0035 UDP"
    "             299\n": Connection("UDP", "fd00::1", 34856, "fd00::2", 53, "127.0.0.1", 53, "UDP", 299),
    "IP  0A600001 0000 00000005 0000 7F000001 0000 NONE             29\n": Connection(
        "IP", "10.96.0.1", 0, "0.0.0.5", 0, "127.0.0.1", 0, "NONE", 29
    ),
    "UDP 0A600001 0000 0A600002 13C4 7F000001 13C4 NONE             29 sip a84b4c76e66710@pc33\n": Connection(
        "UDP", "10.96.0.1", 0, "10.96.0.2", 5060, "127.0.0.1", 5060, "NONE", 29, "sip", "a84b4c76e66710@pc33"
    ),
}


@pytest.mark.parametrize(("row", "connection"), ROWS.items())
def test_a_row_is_read(row: str, connection: Connection) -> None:
    assert parse(row) == connection


def test_a_tunnel_may_lead_to_the_other_family() -> None:
    connection = next(one for one in ROWS.values() if one.virtual == "fd00::2")
    assert connection.family is Family.IPV6
    assert str(connection) == "UDP [fd00::1]:34856 -> [fd00::2]:53 -> 127.0.0.1:53"


addresses = some.ip_addresses()
ports = some.integers(0, 65535)


def written(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"{int(address):08X}" if address.version == 4 else address.exploded


@given(addresses, ports, addresses, ports, addresses, ports, some.integers(0, 10**7))
def test_any_row_is_read(client, client_port, virtual, virtual_port, real, real_port, expires) -> None:
    row = (
        f"TCP {written(client)} {client_port:04X} {written(virtual)} {virtual_port:04X}"
        f" {written(real)} {real_port:04X} {'TIME_WAIT':<11} {expires:7}\n"
    )
    read = parse(row)
    assert [ipaddress.ip_address(one) for one in (read.client, read.virtual, read.real)] == [client, virtual, real]
    assert (read.client_port, read.virtual_port, read.real_port) == (client_port, virtual_port, real_port)
    assert (read.state, read.expires) == ("TIME_WAIT", expires)


def test_connections_are_counted_by_the_lines_of_real_servers() -> None:
    listing = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
UDP  [fd00:0000:0000:0000:0000:0000:0000:0002]:0035 wlc 
  -> 7F000001:0035      Tunnel  1      0          1         
  -> [fd00:0000:0000:0000:0000:0000:0000:0001]:14E9      Masq    1      0          0         
TCP  0A600001:0050 rr  persistent 10000 FFFFFF00
  -> 7F000001:1F90      Masq    1      20         3         
""".splitlines()
    assert [connections_of_real(line) for line in listing] == [0, 0, 0, 0, 1, 0, 0, 23]


def test_recent_kernels_tell_the_total() -> None:
    assert parse_status("Conns:\t1048576\n") == Total(1048576, exact=True)
