"""What the kernel holds of Services in a proxy mode, in the words of all modes: service ports, and new connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kpx.net import Family
from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Masquerade, Scope, ServicePortName, Verdict

Destination = tuple[str, int]  # an endpoint's address and port
Port = tuple[Family, Frontends]


class Held(Protocol):
    """One reading of the kernel."""

    @property
    def program(self) -> str:
        """What made these rules, and the mode: ``kpx, mode nftables``."""

    @property
    def counts(self) -> bool:
        """Whether the kernel counts the new connections of each endpoint in this mode."""

    def connections(self, family: Family, frontends: Frontends) -> Mapping[Destination, int]:
        """The new connections that each endpoint of a service port has got since its rules were made."""

    def ports(self) -> list[Port]:
        """The service ports that the kernel tells of, as far as it does: names may be missing."""


@dataclass(slots=True)
class Found:
    """A service port as it is pieced together from what the kernel holds."""

    family: Family
    port: ServicePortName
    frontends: dict[tuple[str | None, int], Frontend]
    endpoints: dict[Destination, Endpoint]

    @classmethod
    def named(cls, family: Family, port: ServicePortName) -> Found:
        return cls(family, port, {}, {})

    def answers(self, kind: Kind, address: str | None, port: int, verdict: Verdict = Verdict.FORWARD) -> None:
        made = Frontend(kind, address, port, self.port.protocol, Scope.CLUSTER, verdict, Masquerade.OFF_CLUSTER)
        if verdict is Verdict.FORWARD or (address, port) not in self.frontends:
            self.frontends[address, port] = made

    def leads(self, address: str, port: int) -> None:
        self.endpoints.setdefault((address, port), Endpoint(address, port))

    def whole(self) -> Port:
        endpoints = tuple(self.endpoints[one] for one in sorted(self.endpoints))
        frontends = tuple(self.frontends.values())
        made = Frontends(self.port, frontends, endpoints, endpoints, (), endpoints, bool(endpoints))
        return self.family, made


class Finds:
    """Service ports as they are found, by family and name."""

    def __init__(self) -> None:
        self._found: dict[tuple[Family, ServicePortName], Found] = {}

    def of(self, family: Family, port: ServicePortName) -> Found:
        key = family, port
        if key not in self._found:
            self._found[key] = Found.named(family, port)
        return self._found[key]

    def ports(self) -> list[Port]:
        return [one.whole() for one in self._found.values()]


def port_name(text: str, protocol: str) -> ServicePortName:
    """The service port that a comment names: ``ns/name:port``."""
    name, _, port = text.partition(":")
    namespace, slash, name = name.rpartition("/")
    return ServicePortName(namespace if slash else "", name, port, protocol.upper())
