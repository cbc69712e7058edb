"""All runbooks, and all checks by their ids."""

from __future__ import annotations

from kpx.doctor.check import Check, Runbook
from kpx.doctor.runbooks import clusterip, conntrack, nodeport, practices, source_ip, sync

RUNBOOKS: tuple[Runbook, ...] = tuple(
    module.RUNBOOK for module in (clusterip, nodeport, sync, source_ip, conntrack, practices)
)


def checks() -> dict[str, tuple[Check, tuple[Runbook, ...]]]:
    """Every check, and the runbooks that it is a step of."""
    found: dict[str, tuple[Check, tuple[Runbook, ...]]] = {}
    for runbook in RUNBOOKS:
        for one in runbook.steps:
            _, before = found.get(one.id, (one, ()))
            found[one.id] = one, (*before, runbook)
    return dict(sorted(found.items()))


def runbook(name: str) -> Runbook | None:
    return next((one for one in RUNBOOKS if one.name == name), None)
