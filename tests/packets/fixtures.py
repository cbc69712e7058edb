"""The lab that the packet scenarios share: made once for a session, removed at its end, however it ends."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType

import pytest

from kpx import lab
from kpx.lab import Lab, namespaces, state
from kpx.lab.topology import Topology
from kpx.net import Family
from tests.packets.node import Node, Variant
from tests.packets.proxies import StockRules

_OURS = re.compile(r"t(\d+)")


@pytest.fixture(scope="session")
def scenario_lab() -> Iterator[Lab]:
    """A lab with all the pods that the scenarios name, without a daemon."""
    _remove_leftovers()
    name = f"t{os.getpid()}"
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield lab.up(name, topology=Topology(tuple(range(10, 20)), tuple(range(10, 21))), daemon=None)
    finally:
        lab.down(name)
        signal.signal(signal.SIGTERM, former)


Planting = Callable[..., Node]


@pytest.fixture
def planted(scenario_lab: Lab) -> Iterator[Planting]:
    """Puts stock kube-proxy's rules on the node: of a variant, and of IPv4 or the families that are named after it.

    The test's thread is in the node.
    """
    node = Node(scenario_lab)
    used: list[Variant] = []

    def program(variant: Variant, *families: Family) -> Node:
        used.append(variant)
        wanted = families or (Family.IPV4,)
        # The fixture's file for nftables holds both.
        for family in wanted[:1] if variant.mode == "nftables" else wanted:
            StockRules(node, variant, family).start([], {})
        return node

    with namespaces.entered(node.namespace):
        yield program
    for variant in used:
        node.blank(variant)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take a termination as an interrupt, so that the lab is removed."""
    raise KeyboardInterrupt


def _remove_leftovers() -> None:
    """Remove the labs of earlier sessions that were killed."""
    with suppress(FileNotFoundError):
        for folder in list(state.ROOT.iterdir()):
            match = _OURS.fullmatch(folder.name)
            if match and state.start_time(int(match[1])) is None:
                lab.down(folder.name)
