"""The counters of some Services read alone are those that a reading of everything finds."""

from __future__ import annotations

import pytest

from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from kpx.proxier.frontends import ServicePortName
from kpx.tools.cluster import Options, find
from kpx.top.reading.counters import Counters
from kpx.top.snapshot import Counts
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.places import started
from tests.kernel.daemon.process import eventually
from tests.kernel.daemon.test_services_command import traffic
from tests.kernel.top.conftest import Named

CART = ServicePortName("shop", "cart", "http", "TCP")  # with session affinity
FRONT = ServicePortName("shop", "front", "http", "TCP")  # by its node port


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_alone_as_with_the_others(mode: str, place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, mode).socket)
    alone_as_with_the_others(place, mode)


def alone_as_with_the_others(place: Lab, mode: str) -> None:
    """Make traffic on a lab's node, and compare the two readings of it."""
    traffic(place)
    with namespaces.entered(place.namespace(NODE)):
        counters = Counters()
        counters.learn(find(Options())[0].ports)

        def whole() -> Counts:
            return counters.read(mode) or {}

        # IPVS adds up what it has counted with some delay.
        everything = eventually(whole, lambda found: (total(found, CART), total(found, FRONT)) == (4, 8))
        cluster, held = find(Options())
        assert held is not None
        ports = {one.port for _, one in cluster.ports}
        alone = counters.read_some([*ports, ServicePortName("shop", "gone", "", "TCP")])

        assert counted_in(alone) == counted_in(everything)
        for family, one in cluster.ports:
            counted = held.connections(family, one)
            assert {at: everything.get(one.port, {}).get(at, 0) for at in counted} == dict(counted)


def total(counts: Counts, port: ServicePortName) -> int:
    return sum(counts.get(port, {}).values())


def counted_in(counts: Counts) -> Counts:
    """Without those that have counted nothing."""
    return {port: some for port, found in counts.items() if (some := {at: one for at, one in found.items() if one})}
