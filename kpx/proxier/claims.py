"""Which Service owns an address: two that claim one address and port cannot both have it.

The older Service wins (its creation time, then its name); the other takes over when it can. Upstream programs both
and leaves the choice to the order of its rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kpx.proxier.frontends import Frontend, Frontends, ServiceName, ServicePortName

Age = tuple[str, ServiceName]


class Claim(NamedTuple):
    """An address that a frontend answers on; ``address`` is None for a node port."""

    address: str | None
    protocol: str
    port: int

    def __str__(self) -> str:
        where = f"node port {self.port}" if self.address is None else f"{self.address} port {self.port}"
        return f"{where}/{self.protocol}"


def claim_of(frontend: Frontend) -> Claim:
    return Claim(frontend.address, frontend.protocol, frontend.port)


@dataclass(slots=True)
class Claims:
    """The claims of all service ports of one family."""

    _claimants: dict[Claim, dict[ServicePortName, Age]] = field(default_factory=dict)

    def replace(self, port: ServicePortName, age: Age | None, old: set[Claim], new: set[Claim]) -> set[ServicePortName]:
        """Record that a service port claims `new` in place of `old`; return the rivals whose lot may change."""
        rivals: set[ServicePortName] = set()
        for claim in old - new:
            claimants = self._claimants[claim]
            del claimants[port]
            rivals |= claimants.keys()
            if not claimants:
                del self._claimants[claim]
        for claim in new:
            claimants = self._claimants.setdefault(claim, {})
            if claimants.get(port) != age and age is not None:
                claimants[port] = age
                rivals |= claimants.keys()
        return rivals - {port}

    def lost(self, port: ServicePortName, wanted: set[Claim]) -> dict[Claim, ServicePortName]:
        """The claims of a service port that others have won, with the winners."""
        contested = (claim for claim in wanted if len(self._claimants[claim]) > 1)
        owners = {claim: self._owner(claim) for claim in contested}
        return {claim: owner for claim, owner in owners.items() if owner != port}

    def _owner(self, claim: Claim) -> ServicePortName:
        claimants = self._claimants[claim]
        return min(claimants, key=lambda port: (claimants[port], port))


def without(wanted: Frontends, lost: Iterable[Claim]) -> Frontends:
    """The service port with only the addresses that it gets."""
    refused = set(lost)
    if not refused:
        return wanted
    return replace(wanted, frontends=tuple(one for one in wanted.frontends if claim_of(one) not in refused))
