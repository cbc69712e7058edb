"""Backends in the test's namespace, the worlds that they serve, and what the kernel then holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import yaml

from kpx.cluster.objects import EndpointSlice, Service
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.expressions import Verdict
from kpx.kernel.nft.sets import unpack
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import ServiceName
from kpx.proxier.nftables.backend import NftablesBackend
from kpx.proxier.nftables.containers import containers
from kpx.proxier.nftables.reading import Held, read
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from tests.packets.scenario import FIXTURE
from tests.unit.proxier.objects import endpoint_slice, service

SETTINGS = {
    Family.IPV4: Settings(
        Family.IPV4,
        LocalTraffic("10.244.0.0/16"),
        "10.199.0.21",
        node_ports=("10.199.0.21", "10.199.1.21"),
        service_cidrs=("10.96.0.0/16", "10.112.0.0/16"),
    ),
    Family.IPV6: Settings(Family.IPV6, LocalTraffic(interface="pod-+"), "fd00:199::21"),
}


@contextmanager
def backend(family: Family = Family.IPV4) -> Iterator[NftablesBackend]:
    """A backend as a daemon that has just started has it."""
    made = NftablesBackend(Nft(), SETTINGS[family])
    try:
        yield made
    finally:
        made.close()


def fixture_world(family: Family) -> DesiredState:
    """The objects that the fixtures of a real kube-proxy were made from."""
    desired = DesiredState(family, Viewpoint(node="node-a", zone="z1"))
    for one in yaml.safe_load_all((FIXTURE / "objects.yaml").read_text()):
        if one["kind"] == "Service":
            desired.tracker.apply_service(msgspec.convert(one, Service))
        elif one["kind"] == "EndpointSlice":
            desired.tracker.apply_slice(msgspec.convert(one, EndpointSlice))
    desired.take()
    return desired


def table(family: Family = Family.IPV4) -> Held:
    """Our table as the kernel holds it."""
    with Nft() as nft:
        return read(nft, SETTINGS[family].table)


def contents(held: Held) -> dict[str, Any]:
    """A table's content without the order of slots, which depends on history."""
    sets = containers(SETTINGS[Family.IPV4].nf_family)
    lists = {(place.map, place.key, place.local): order for place, order in held.slots(sets).items()}
    assert all(None not in order and len(set(order)) == len(order) for order in lists.values())
    elements = {
        name: {(one.key, one.flags, one.comment, one.data if isinstance(one.data, Verdict) else None) for one in listed}
        for name, listed in held.elements.items()
    }
    return {
        "lists": {place: frozenset(order) for place, order in lists.items()},
        "elements": elements,
        "rules": held.rules,
        "sets": held.sets,
    }


def counts(held: Held) -> dict[tuple[str, str], int]:
    """The new connections that each endpoint of each virtual address has had: by (address, endpoint)."""
    endpoints = held.sets["endpoints"]
    return {
        (unpack(endpoints.key, one.key)[0], unpack(endpoints.data, one.data)[0]): one.counter.packets
        for one in held.elements["endpoints"]
        if isinstance(one.data, bytes) and one.counter is not None
    }


def shop(desired: DesiredState, name: str = "web", *hosts: int, **spec: Any) -> None:
    """Bring or change a Service with endpoints 10.244.0.<host>; hosts below 3 are on this node."""
    number = sum(name.encode()) % 250
    desired.tracker.apply_service(service(f"shop/{name}", **{"clusterIP": f"10.96.0.{number}", **spec}))
    endpoints(desired, name, *hosts)


def endpoints(desired: DesiredState, name: str, *hosts: int) -> None:
    """The endpoints of a Service are these now."""
    addresses = (f"10.244.0.{host}@{'n1' if host < 3 else 'n2'}" for host in hosts)
    desired.tracker.apply_slice(endpoint_slice(f"shop/{name}", *addresses, of=name))


def remove(desired: DesiredState, name: str) -> None:
    """The Service is gone."""
    desired.tracker.remove_service(ServiceName("shop", name))


def world() -> DesiredState:
    """An empty one, seen from node n1."""
    return DesiredState(Family.IPV4, Viewpoint(node="n1"))
