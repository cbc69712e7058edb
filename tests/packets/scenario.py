"""The text form of packet scenarios: tests/scenarios/README.md describes it for writers.

Decoding is strict: an unknown key or a wrong type fails with its path. A scenario is then resolved for a mode and a
family: exceptions (``but``) applied, addresses translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from kpx.net import Family
from tests.packets.addresses import in_family

SCENARIOS = Path(__file__).parents[1] / "scenarios"
FIXTURE = Path(__file__).parents[1] / "fixtures" / "kube-proxy-1.36"

Object = dict[str, Any]
Mode = Literal["iptables", "nftables", "ipvs"]
FamilyName = Literal["IPv4", "IPv6"]


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should become of a send: see the README."""

    answers: tuple[str, ...] = ()
    fails: Literal["refused", "forbidden", "timeout"] | None = None
    sees: str | dict[str, str] | None = None
    port: Literal["kept", "changed"] | None = None
    sticky: Literal["yes", "kept", "forgotten"] | None = None


class Send(Expectation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sends what, how often, and what should become of it."""

    sender: str = msgspec.field(name="from")
    to: str
    times: int | None = None
    source: str | None = None
    source_port: int = 0
    sources: int = 1
    but: dict[str, Expectation | Literal["skip"]] = {}

    @property
    def expected(self) -> Expectation:
        return Expectation(**{name: getattr(self, name) for name in Expectation.__struct_fields__})


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step; exactly one of its keys is given."""

    send: tuple[Send, ...] = ()
    apply: list[Object] = []
    patch: dict[str, Object] = {}
    delete: tuple[str, ...] = ()
    wait: float = 0.0
    node: str = ""

    def __post_init__(self) -> None:
        if len(msgspec.to_builtins(self)) != 1:
            raise ValueError("a step has exactly one of send, apply, patch, delete, wait, node")


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scenario as it is written."""

    scenario: str
    objects: Literal["fixture"] | list[Object] = "fixture"
    config: dict[str, Any] = {}
    modes: tuple[Mode, ...] = ("iptables", "nftables", "ipvs")
    families: tuple[FamilyName, ...] = ("IPv4", "IPv6")
    stock: tuple[FamilyName, ...] = ()
    covers: tuple[str, ...] = ()
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario resolved for one mode and one family."""

    name: str
    family: Family
    objects: list[Object]
    config: dict[str, Any]
    steps: tuple[Step, ...]


def load(folder: Path = SCENARIOS) -> dict[str, Scenario]:
    """All scenarios of a folder, by ``file/scenario``."""
    found: dict[str, Scenario] = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            try:
                scenario = msgspec.convert(document, Scenario)
            except msgspec.ValidationError as error:
                raise ValueError(f"{path.name}, scenario {document.get('scenario')!r}: {error}") from error
            name = f"{path.stem}/{scenario.scenario.replace(' ', '-')}"
            if name in found:
                raise ValueError(f"{path.name} has two scenarios called {scenario.scenario!r}")
            found[name] = scenario
    return found


def resolve(name: str, scenario: Scenario, mode: str, family: Family) -> Case:
    """A scenario as it runs in one mode and family."""
    objects = scenario.objects if isinstance(scenario.objects, list) else fixture_objects()
    steps = tuple(_resolved_steps(scenario.steps, mode, family))
    return Case(name, family, objects, in_family(scenario.config, family), steps)


@cache
def fixture_objects() -> list[Object]:
    """The objects of the small cluster whose stock rules are kept under tests/fixtures."""
    return list(yaml.safe_load_all((FIXTURE / "objects.yaml").read_text(encoding="utf-8")))


def _resolved_steps(steps: tuple[Step, ...], mode: str, family: Family) -> Iterator[Step]:
    for step in steps:
        if step.send:
            sends = msgspec.to_builtins(tuple(_resolved_sends(step.send, {mode, family.value})))
            if sends:
                yield Step(send=msgspec.convert(in_family(sends, family), tuple[Send, ...]))
        elif step.node:
            yield Step(node=in_family(step.node, family))
        else:
            yield step


def _resolved_sends(sends: tuple[Send, ...], run: set[str]) -> Iterator[Send]:
    """The sends with their last exception that fits this run; an exception's key names modes and families."""
    for send in sends:
        fitting = [exception for names, exception in send.but.items() if set(names.split()) <= run]
        if not fitting:
            yield msgspec.structs.replace(send, but={})
        elif isinstance(exception := fitting[-1], Expectation):
            yield msgspec.structs.replace(send, but={}, **msgspec.structs.asdict(exception))
