"""The routing tables, looked up without asking the kernel: it decides the same."""

from __future__ import annotations

import subprocess

from kpx.kernel.links import addresses
from kpx.kernel.routes import Routing
from kpx.kernel.routing_tables import Tables, read_links, read_routes, read_rules, read_speaking

_NETWORK = """
link add out type veth peer name far
link set out up
link set far up
address add 192.0.2.1/24 dev out
address add 192.0.2.2/24 dev out
address add 2001:db8::1/64 dev out nodad
address add 2001:db8::2/64 dev out nodad preferred_lft 0
route add default via 192.0.2.254 dev out src 192.0.2.2
route add 198.51.100.0/24 via 192.0.2.253 dev out metric 20
route add 198.51.100.0/24 via 192.0.2.252 dev out metric 10
route add blackhole 198.51.100.64/26
route add unreachable 198.51.100.128/26
route add 203.0.113.0/24 nexthop via 192.0.2.250 dev out weight 1
route add 10.9.0.0/16 via 192.0.2.251 dev out table 100
route add throw 10.9.9.0/24 table 100
route add default via 2001:db8::fe dev out
rule add to 10.9.0.0/16 lookup 100
rule add fwmark 0x10/0xf0 lookup 100
rule add to 10.8.0.0/16 prohibit
"""
_DESTINATIONS = (
    *("192.0.2.1", "192.0.2.9", "192.0.2.255", "8.8.8.8", "127.0.0.1", "198.51.100.1", "198.51.100.65"),
    *(
        "198.51.100.129",
        "203.0.113.5",
        "10.9.0.1",
        "10.9.9.1",
        "10.8.0.1",
        "2001:db8::1",
        "2001:db8::9",
        "2001:4860::1",
    ),
)


def test_the_kernel_decides_the_same() -> None:
    subprocess.run(["ip", "-batch", "-"], input=_NETWORK, text=True, check=True)
    tables = Tables(read_routes(), read_rules())

    with Routing() as routing:
        for destination in _DESTINATIONS:
            for mark in (0, 0x10, 0x20):
                kernel, ours = routing.route(destination, mark=mark), tables.route(destination, mark=mark)
                told = (destination, mark, kernel, ours)
                # A route that discards is told of as an error, whose number the kernel has made from its kind.
                assert ours.kind == kernel.kind or (ours.kind, kernel.kind) == ("blackhole", "martian"), told
                if kernel.kind == "unicast":
                    assert (ours.interface, ours.gateway) == (kernel.interface, kernel.gateway), told


def test_interfaces_and_the_addresses_that_a_source_is_chosen_from() -> None:
    subprocess.run(["ip", "-batch", "-"], input=_NETWORK, text=True, check=True)

    assert {(one.name, one.kind) for one in read_links()} >= {("lo", ""), ("out", "veth")}
    spoken = {one.address for one in read_speaking()}
    assert {"192.0.2.1", "2001:db8::1"} <= spoken
    assert not spoken & {"192.0.2.2", "2001:db8::2", "127.0.0.1"}
    assert spoken < {one.address for one in addresses()}
