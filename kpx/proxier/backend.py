"""What the loop asks of a proxy mode: make the kernel match, and say what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from kpx.proxier.desired import Delta
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.phases import Phase


class BackendError(Exception):
    """The kernel could not be brought to match; the text is one sentence for the log. A full sync may mend it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sync did.

    ``written`` and ``owned`` are numbers of rules (or elements), by table. ``rejected`` names the service ports that
    the kernel refused, and why: they are left out, all others are served. ``repairs`` is the number of things that a
    full sync found missing, changed or left over, and ``repaired`` are lines for the log that tell of the first ones.
    ``unremoved`` says that the kernel would not remove what is in use no more: harmless, and tried again next time.
    """

    written: Mapping[str, int]
    owned: Mapping[str, int]
    rejected: Mapping[ServicePortName, str] = field(default_factory=dict)
    repaired: tuple[str, ...] = ()
    repairs: int = 0
    unremoved: bool = False


class Backend(Protocol):
    """A proxy mode in one family. Its methods raise `BackendError`; after one only `sync` may follow."""

    def sync(self, frontends: Mapping[ServicePortName, Frontends]) -> Outcome:
        """Make the kernel match, whatever is there: read it and apply the difference."""

    def update(self, delta: Delta) -> Outcome:
        """Make the smallest change that takes the kernel from the last sync to now."""

    def service_cidrs(self, networks: tuple[str, ...]) -> bool:
        """ClusterIPs are taken from these networks (canonical ones); return whether that asks for an update."""

    def drifted(self) -> str | None:
        """What others have done to our rules since the last call, in words, or None. Cheap: called every second."""

    def phases(self) -> dict[Phase, float]:
        """The seconds that the last sync spent on reading and on writing the kernel, whether it succeeded or not."""

    def tend(self) -> None:
        """Finish what had to wait, such as the draining of real servers. Cheap: called every second or so."""

    def cleanup(self) -> None:
        """Remove everything that is this mode's, and nothing else."""

    def close(self) -> None:
        """Let go of what watches the kernel; the rules stay."""
