"""`kpx top` in mode ipvs: ipvsadm's own tables, and the counts of its real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpx.lab import Lab
from tests.kernel.daemon.conftest import Daemons, Node, daemons, lab_of, node
from tests.kernel.daemon.places import started
from tests.kernel.daemon.test_services_command import connect
from tests.kernel.top.conftest import Driver, Named, drive, socket_path
from tests.kernel.top.test_counters import alone_as_with_the_others

__all__ = ["daemons", "node", "socket_path"]


@pytest.fixture
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


def test_counters_alone_as_with_the_others(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, "ipvs").socket)
    alone_as_with_the_others(place, "ipvs")


def test_the_tables_of_ipvs(place: Lab, node: Node, daemons: Daemons, socket_path: Named) -> None:
    socket_path(started(daemons, place, node, "ipvs").socket)
    connect(place, "a11", "tcp", "10.96.100.1", 80, 5)

    async def scenario(top: Driver) -> None:
        await top.until("mode ipvs", "from the daemon", "web:http")
        await top.press("/", *"shop/web", "enter", "enter")
        await top.until("10.244.21.10:8080", "10.244.22.10:8080")
        await top.once(lambda: "100.0%" in top.text or "%  " in top.text, "the shares of the endpoints")
        await top.press("enter")
        await top.until("TCP  10.96.100.1:80 rr", "  -> 10.244.21.10:8080")
        await top.press("3")
        await top.until("IP Virtual Server version", "Prot LocalAddress:Port Scheduler Flags", "TCP  10.96.100.1:80 rr")
        await top.press("v")
        await top.until("Conns   InPkts  OutPkts")
        await top.press("v")
        await top.until("CPS    InPPS   OutPPS")
        await top.press("/", *"10.96.100.1:80")
        assert "10.96.100.2:53" not in top.text

    drive(place, scenario)
