"""A check: what is looked at, why, and the function that looks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kpx.doctor.facts import Facts
from kpx.doctor.finding import Result
from kpx.doctor.subject import Subject

# Until a change that is under way is through, in seconds: kube-proxy programs it after minSyncPeriod, by default 1 s.
SETTLES = 1.5

Look = Callable[[Facts, Subject], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Check:
    """``id`` is stable: documents, alerts and people refer to it. ``remedy`` says in general what mends it.

    ``settles`` are seconds: what is compared may be in the midst of a change, and a fault must be there after it, too.
    """

    id: str
    title: str
    why: str
    remedy: str
    look: Look
    links: tuple[str, ...] = ()
    settles: float = 0.0


def check(
    id_: str, title: str, *, why: str, remedy: str, links: tuple[str, ...] = (), settles: float = 0.0
) -> Callable[[Look], Check]:
    """Makes a check of the function that looks."""
    return lambda look: Check(id_, title, why, remedy, look, links, settles)


@dataclass(frozen=True, slots=True)
class Runbook:
    """Checks in the order in which an operator would make them."""

    name: str
    title: str
    steps: tuple[Check, ...]
