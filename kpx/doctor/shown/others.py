"""Findings for other programs: JUnit's XML, and the line that a node-problem-detector reads."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from kpx.doctor.finding import Finding, Status

_CONTROL = dict.fromkeys(range(32)) | {9: " ", 10: " ", 13: " "}
# A custom plugin of node-problem-detector: its exit statuses, and how much of its output is read.
OK, NOT_OK, UNKNOWN = 0, 1, 2
_MOST = 80


def junit(findings: Sequence[Finding], seconds: float) -> str:
    """A test suite for each runbook, a test case for each finding."""
    root = ElementTree.Element("testsuites", name="kpx doctor", time=f"{seconds:.3f}")
    for runbook in dict.fromkeys(one.runbook for one in findings):
        some = [one for one in findings if one.runbook == runbook]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=runbook,
            tests=str(len(some)),
            failures=str(sum(one.status is Status.FAIL for one in some)),
            errors=str(sum(one.status is Status.ERROR for one in some)),
            skipped=str(sum(one.status is Status.SKIP for one in some)),
        )
        for one in some:
            _case(suite, one)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def _case(suite: ElementTree.Element, one: Finding) -> None:
    result = one.result
    name = _clean(f"{one.id} {one.title}{f' ({result.subject})' if result.subject else ''}")
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"kpx.{one.runbook}", name=name, time=f"{one.seconds:.3f}"
    )
    evidence = "\n".join(_clean(f"{each.value} ({each.source})") for each in result.evidence)
    words = {Status.FAIL: "failure", Status.ERROR: "error", Status.SKIP: "skipped"}
    if one.status in words:
        ElementTree.SubElement(case, words[one.status], message=_clean(result.says)).text = evidence
    else:
        text = _clean(f"{one.status.value}: {result.says}")
        ElementTree.SubElement(case, "system-out").text = f"{text}\n{evidence}"


def _clean(text: str) -> str:
    """Without what XML does not allow."""
    return text.translate(_CONTROL).encode(errors="replace").decode()


def not_known(why: str) -> tuple[str, int]:
    """What a custom plugin says that cannot tell."""
    return why[:_MOST], UNKNOWN


def npd(findings: Sequence[Finding]) -> tuple[str, int]:
    """One short line, and the exit status of a custom plugin."""
    bad = [one for one in findings if one.status is Status.FAIL]
    if bad:
        more = f" (+{len(bad) - 1})" if len(bad) > 1 else ""
        line = f"{bad[0].id} {bad[0].result.says}"
        return f"{line[: _MOST - len(more)]}{more}", NOT_OK
    if any(one.status is Status.ERROR for one in findings):
        return "some checks could not be made: see kpx doctor", UNKNOWN
    return "Services are served as they should be", OK
