"""`kpx services` in mode ipvs: the real servers count, and the kernel alone knows no names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpx.lab import Lab
from tests.kernel.daemon.conftest import Daemons, Node, daemons, lab_of, node
from tests.kernel.daemon.places import started
from tests.kernel.daemon.process import eventually
from tests.kernel.daemon.test_services_command import COUNTED, Here, traffic

__all__ = ["daemons", "node"]


@pytest.fixture
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


def counted(here: Here) -> dict[str, object]:
    found = here.services()
    return {name: found[name]["connections"] for name in COUNTED}


def test_new_connections_are_counted_for_each_endpoint(place: Lab, node: Node, daemons: Daemons) -> None:
    here = Here(place, started(daemons, place, node, "ipvs").socket)
    traffic(place)

    # The kernel's counters are up to two seconds late.
    eventually(lambda: counted(here), lambda found: found == COUNTED)
    alone = here.kpx("services", "--kernel-only", "--ip", "10.96.100.2").stdout.splitlines()[1:]
    assert [line.split() for line in alone] == [
        ["-", "-", f"53/{protocol}", "cluster", "10.96.100.2", "2/2", count]
        for protocol, count in (("TCP", "0"), ("UDP", "6"))
    ]
