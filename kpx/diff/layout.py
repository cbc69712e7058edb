"""What a mode's comparison gives, and what it has to know of the node's proxy besides Services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from kpx.diff.difference import Difference
from kpx.net import Family
from kpx.proxier.frontends import Frontend, Frontends, Kind, Masquerade, ServicePortName
from kpx.proxier.node import LocalTraffic

# kube-proxy's own, where no rule shows another.
DEFAULT_MARK = 0x4000

Ports = Mapping[ServicePortName, Frontends]


@dataclass(frozen=True, slots=True)
class Learned:
    """What the rules in the kernel themselves show of the proxy's configuration: whom they take for pods, the mark."""

    pods: LocalTraffic | None = None
    masquerade_all: bool = False
    mark: int = DEFAULT_MARK


class Layout(Protocol):
    """One family's rules of Services as the kernel holds them, in one mode and one program's way."""

    @property
    def family(self) -> Family:
        """The family of the rules."""

    @property
    def program(self) -> str:
        """Whose rules these are, and the mode."""

    @property
    def sign(self) -> str:
        """What the tracer calls these rules (`kpx.trace.reading.rules.KernelRules.proxies`)."""

    @property
    def learned(self) -> Learned:
        """What they show of the configuration."""

    def differences(self, ports: Ports) -> Iterator[Difference]:
        """In which they differ from what is wanted: what all Services need first."""


def adapted(ports: Iterable[Frontends], learned: Learned, *, configured: bool) -> dict[ServicePortName, Frontends]:
    """The service ports, with what depends on how pods are told: the rules show it where no configuration says it."""
    shown = Masquerade.OFF_CLUSTER if learned.pods else Masquerade.NEVER
    how = Masquerade.ALWAYS if learned.masquerade_all else shown

    def due(one: Frontend) -> Frontend:
        if one.kind is not Kind.CLUSTER_IP or (configured and one.masquerade is not Masquerade.OFF_CLUSTER):
            return one
        return replace(one, masquerade=shown if configured else how)

    return {one.port: replace(one, frontends=tuple(map(due, one.frontends))) for one in ports}


def commonest(values: Iterable[str]) -> str:
    """The value that is there most often; empty for none."""
    counted: dict[str, int] = {}
    for value in values:
        counted[value] = counted.get(value, 0) + 1
    return max(counted, key=lambda one: counted[one], default="")


def family_ports(ports: Iterable[tuple[Family, Frontends]], family: Family) -> list[Frontends]:
    """The service ports of one family."""
    return [one for of, one in ports if of is family]
