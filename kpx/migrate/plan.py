"""The plan of a move: what was found, what will differ, what to do. Pure."""

from __future__ import annotations

import msgspec

from kpx.migrate.changes import changes
from kpx.migrate.checks import Check, Status, checks
from kpx.migrate.facts import Facts
from kpx.migrate.steps import Step, steps
from kpx.proxier.published import API_VERSION


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """What `kpx migrate -o json` shows (docs/json.md). ``before`` is empty where no mode is known to be in force."""

    before: str = msgspec.field(name="from")
    after: str = msgspec.field(name="to")
    ready: bool
    checks: tuple[Check, ...]
    changes: tuple[str, ...]
    steps: tuple[Step, ...]
    api_version: str = API_VERSION


def plan(facts: Facts, mode: str) -> Plan:
    """The plan for a node to be served by kpx in a mode."""
    found = checks(facts, mode)
    return Plan(
        before=facts.mode,
        after=mode,
        ready=all(one.status is not Status.FAIL for one in found),
        checks=tuple(found),
        changes=changes(facts.mode, mode),
        steps=tuple(steps(facts.mode, mode)),
    )
