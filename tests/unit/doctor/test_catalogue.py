"""The checks as a whole: ids, runbooks, documents and the lab's faults agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kpx.doctor.catalogue import RUNBOOKS, checks
from kpx.lab.faults.catalogue import FAULTS

DOCS = Path(__file__).parents[3] / "docs" / "runbooks"


def test_ids_are_well_formed_and_each_is_of_one_check() -> None:
    steps = [one for runbook in RUNBOOKS for one in runbook.steps]
    assert all(re.fullmatch(r"KPX-(PX|IP|NP|FW|KN|SI|SY|CT|BP)-\d{3}", one.id) for one in steps)
    assert len({one.id for one in steps}) == len({id(one.look) for one in steps})


def test_every_check_says_why_and_what_mends_it() -> None:
    assert all(one.title and one.why.endswith(".") and one.remedy.endswith((".", ".)")) for one, _ in checks().values())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_a_step_of_its_runbook(name: str) -> None:
    fault = FAULTS[name]
    _, runbooks = checks()[fault.found_by]
    assert fault.runbook in {one.name for one in runbooks}


def test_there_are_at_least_fifteen_faults() -> None:
    assert len(FAULTS) >= 15


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda one: one.name)
def test_a_runbook_has_a_page_that_names_its_checks_in_order(runbook: object) -> None:
    text = (DOCS / f"{runbook.name}.md").read_text(encoding="utf-8")  # type: ignore[attr-defined]
    named = re.findall(r"^\| `(KPX-[A-Z]{2}-\d{3})` \|", text, re.MULTILINE)
    assert named == [one.id for one in runbook.steps]  # type: ignore[attr-defined]
