"""The counters of some Services read alone are those that a reading of everything finds."""

from __future__ import annotations

from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from kpx.proxier.frontends import ServicePortName
from kpx.tools.cluster import Options, find
from kpx.top.reading.counters import Counters
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.places import started
from tests.kernel.daemon.test_services_command import traffic
from tests.kernel.top.conftest import Named

CART = ServicePortName("shop", "cart", "http", "TCP")  # with session affinity
FRONT = ServicePortName("shop", "front", "http", "TCP")  # by its node port


def test_alone_as_with_the_others(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, "nftables").socket)
    traffic(place)
    with namespaces.entered(place.namespace(NODE)):
        cluster, held = find(Options())
        assert held is not None
        counters = Counters()
        counters.learn(cluster.ports)
        ports = {one.port for _, one in cluster.ports}

        everything = counters.read("nftables")
        assert everything is not None
        alone = counters.read_some([*ports, ServicePortName("shop", "gone", "", "TCP")])

        assert {port: some for port, some in alone.items() if some} == everything
        assert sum(everything[CART].values()) == 4
        assert sum(everything[FRONT].values()) == 8
        for family, one in cluster.ports:
            counted = held.connections(family, one)
            assert {at: everything.get(one.port, {}).get(at, 0) for at in counted} == dict(counted)
