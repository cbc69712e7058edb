"""Findings as JSON (docs/json.md): fields are added, never renamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from kpx.doctor.finding import Finding, Fix, Status, shell
from kpx.doctor.treating import Treated
from kpx.proxier.published import API_VERSION


class _Shown(msgspec.Struct, frozen=True, rename="camel"):
    """Base of what is shown."""


class ShownEvidence(_Shown, frozen=True):
    value: str
    source: str


class ShownFix(_Shown, frozen=True):
    """``now``, ``keep`` and ``undo`` are lines for a shell."""

    says: str
    now: tuple[str, ...]
    keep: tuple[str, ...]
    undo: tuple[str, ...]
    place: str
    foreign: bool


class ShownFinding(_Shown, frozen=True):
    """One finding; ``fixed`` is null where no fix was made, ``fix_error`` why it could not be."""

    id: str
    runbook: str
    status: str
    subject: str
    title: str
    says: str
    evidence: tuple[ShownEvidence, ...]
    why: str
    fix: ShownFix | None
    verify: str
    links: tuple[str, ...]
    seconds: float
    fixed: bool | None
    fix_error: str


class Report(_Shown, frozen=True):
    """All that was found."""

    node: str
    mode: str
    source: str
    service: str
    runbooks: tuple[str, ...]
    seconds: float
    summary: dict[str, int]
    notes: tuple[str, ...]
    findings: tuple[ShownFinding, ...]
    api_version: str = API_VERSION


def shown(one: Treated) -> ShownFinding:
    finding = one.finding
    result = finding.result
    return ShownFinding(
        finding.id,
        finding.runbook,
        result.status.value,
        result.subject,
        finding.title,
        result.says,
        tuple(ShownEvidence(each.value, each.source) for each in result.evidence),
        finding.why,
        _fix(result.fix) if result.fix else None,
        result.verify,
        finding.links,
        finding.seconds,
        one.fixed,
        one.says,
    )


def _fix(fix: Fix) -> ShownFix:
    now, undo = (tuple(map(shell, commands)) for commands in (fix.now, fix.undo))
    return ShownFix(fix.says, now, fix.keep, undo, fix.place.value, fix.foreign)


def summary(findings: Sequence[Finding]) -> dict[str, int]:
    """How many there are of each status."""
    counted = Counter(one.status for one in findings)
    return {status.value: counted[status] for status in Status}


def encode(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode()
