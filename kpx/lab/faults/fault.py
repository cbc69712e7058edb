"""A fault: what is planted, and what the doctor should say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kpx.lab.faults.site import Site

MODES = ("iptables", "ipvs", "nftables")


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that the fault spoils: from a place of the lab; an empty ``place`` where it spoils none."""

    place: str = ""
    protocol: str = "tcp"
    address: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """``found_by`` is the check that fails; ``runbook`` and ``service`` are what the doctor is asked."""

    name: str
    says: str
    runbook: str
    service: str
    found_by: str
    plant: Callable[[Site], None]
    spoils: Visit = Visit()
    modes: tuple[str, ...] = MODES


WEB = Visit("a11", address="10.96.100.1", port=80)
FRONT = Visit("client", address="10.199.0.21", port=30080)
