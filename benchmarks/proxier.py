"""The daemon's proxier for IPv4 in this process, with a synthetic cluster, to be driven step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks import objects
from kpx.cluster.events import Key
from kpx.cluster.objects import EndpointSlice, Kind, Node, Service
from kpx.config.arguments import parse_arguments
from kpx.config.effective import effective_configuration
from kpx.net import Family
from kpx.proxier.family import Clocks, FamilyProxier
from kpx.proxier.observer import Observer, Sync
from kpx.proxier.server import family_proxier
from kpx.proxier.site import Mode
from kpx.proxier.surroundings import surroundings


@contextmanager
def proxier(config: Path, mode: Mode, services: int) -> Iterator[FamilyProxier]:
    """A proxier in the namespace of the calling thread; it knows the whole cluster and has not synced yet.

    Its syncs raise OSError if they fail.
    """
    effective, _ = effective_configuration(parse_arguments(["--config", str(config)]))
    here = surroundings(effective, mode, objects.NODE, msgspec.convert(objects.node(), Node))
    made = family_proxier(effective, mode, here.site(Family.IPV4), here, _Failures(), Clocks())
    try:
        for number in range(services):
            service = msgspec.convert(objects.service(number), Service)
            made.apply_service(Key(Kind.SERVICE, service.metadata.namespace, service.metadata.name), service)
            made.apply_slice(slice_of(number, objects.endpoints(number)))
        yield made
    finally:
        made.close()


def change(proxier: FamilyProxier, number: int, at: int) -> None:
    """Replace the endpoints of a Service: change `at` of a run."""
    proxier.apply_slice(slice_of(number, objects.replacements(at)))
    proxier.sync()


def slice_of(number: int, addresses: list[str]) -> EndpointSlice:
    return msgspec.convert(objects.endpoint_slice(number, addresses), EndpointSlice)


class _Failures(Observer):
    def synced(self, sync: Sync) -> None:
        if not sync.ok:
            raise OSError(f"the sync failed: {sync.error}")
