"""Scenarios as tests: the runs that there are of them, and how one is played."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
from _pytest.mark import ParameterSet

from kpx.lab import Lab
from kpx.net import Family
from tests.packets.node import Node, Variant
from tests.packets.proxies import ProxyFactory
from tests.packets.runner import PATIENCE_SECONDS, Run
from tests.packets.scenario import load, resolve

SCENARIOS = load()


def runs(*variants: Variant, of: Collection[str] = SCENARIOS) -> Iterator[ParameterSet]:
    """Scenarios with every variant and family that they are for: the parameters name, variant and family."""
    for variant in variants:
        for name in of:
            if variant.mode in SCENARIOS[name].modes:
                yield from (_run(name, variant, Family(family)) for family in SCENARIOS[name].families)


def stock_runs(*variants: Variant) -> Iterator[ParameterSet]:
    """The same for those that the stock rules must pass as well."""
    for variant in variants:
        for name, scenario in SCENARIOS.items():
            if variant.mode in scenario.modes:
                yield from (_run(name, variant, Family(family)) for family in scenario.stock)


def _run(name: str, variant: Variant, family: Family) -> ParameterSet:
    return pytest.param(name, variant, family, id=f"{variant.name}-{family.value}-{name}")


def play(
    name: str,
    variant: Variant,
    family: Family,
    lab: Lab,
    factory: ProxyFactory,
    patience: float = PATIENCE_SECONDS,
    run: type[Run] = Run,
) -> None:
    """Run a scenario on a node that is blank, as a new lab's is, and leave it blank."""
    node = Node(lab)
    try:
        case = resolve(name, SCENARIOS[name], variant.mode, family)
        run(case, variant, lab, factory(node, variant, family), patience).run()
    finally:
        node.blank(variant)
