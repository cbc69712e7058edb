"""One check that crashes or hangs takes nobody down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest

from kpx.doctor import running, treating
from kpx.doctor.check import Check, Runbook
from kpx.doctor.facts import Facts, NotKnown
from kpx.doctor.finding import Evidence, Finding, Fix, Result, Status, failed, passed
from kpx.doctor.reading.memo import Memo
from kpx.doctor.session import Plan, Session
from kpx.doctor.subject import Subject
from kpx.doctor.treating import Treated
from kpx.tools.errors import ToolError

NOBODY = cast(Facts, None)  # what these checks ask


class Still:
    """Facts that do not change."""

    def fresh(self) -> None: ...


class Silent:
    """An audience that says nothing."""

    def begins(self, runbook: Runbook, check: Check) -> None: ...

    def found(self, runbook: Runbook, finding: Finding) -> None: ...

    def agrees(self, finding: Finding) -> bool:
        return False

    def treated(self, one: Treated) -> None: ...


def check(id_: str, look: object) -> Check:
    return Check(id_, "it is so", "why", "remedy", look)  # type: ignore[arg-type]


def well(_: Facts, __: Subject) -> Iterator[Result]:
    yield passed("all is well", Evidence("1", "here"))


def test_a_check_that_crashes_or_hangs_is_an_error_of_its_own() -> None:
    released = threading.Event()

    def crashes(_: Facts, __: Subject) -> Iterator[Result]:
        yield passed("it begins well")
        raise ZeroDivisionError("by nothing")

    def hangs(_: Facts, __: Subject) -> Iterator[Result]:
        released.wait()
        yield passed("too late")

    steps = (check("A", crashes), check("B", hangs), check("C", well))
    plan = Plan((Runbook("some", "of these", steps),), Subject(), seconds=0.05)
    try:
        found = [one.finding for one in Session(NOBODY, plan, Silent()).run()]  # type: ignore[arg-type]
    finally:
        released.set()

    assert [(one.id, one.status) for one in found] == [
        ("A", Status.ERROR),
        ("B", Status.ERROR),
        ("C", Status.PASS),
    ]
    assert found[0].result.says == "the check failed: ZeroDivisionError: by nothing"
    assert found[1].result.says == "the check did not end within 0.05 s"


@pytest.mark.parametrize(
    ("raised", "status"), [(NotKnown("nobody tells"), Status.SKIP), (ToolError("it cannot be read"), Status.ERROR)]
)
def test_what_cannot_be_told_is_said(raised: Exception, status: Status) -> None:
    def look(_: Facts, __: Subject) -> Iterator[Result]:
        raise raised
        yield

    (found,) = running.run(Runbook("r", "t", ()), check("A", look), NOBODY, Subject(), 5)

    assert (found.status, found.result.says) == (status, str(raised))


def test_a_step_of_several_runbooks_is_made_once() -> None:
    shared, other = check("A", well), check("B", well)
    books = (Runbook("one", "", (shared,)), Runbook("two", "", (other, shared)))

    assert [(book.name, one.id) for book, one in running.steps(books)] == [("one", "A"), ("two", "B")]


def test_a_reading_is_made_once_and_one_that_hangs_is_waited_for_once() -> None:
    memo, made, released = Memo(0.05), [], threading.Event()

    def read() -> int:
        made.append(1)
        return 7

    assert [memo.get("seven", read) for _ in range(3)] == [7, 7, 7]
    assert made == [1]
    try:
        for _ in range(2):
            with pytest.raises(ToolError, match=r"the dump could not be read within 0\.05 s"):
                memo.get("the dump", released.wait)
        assert memo.hangs
    finally:
        released.set()
    with pytest.raises(ZeroDivisionError):
        memo.get("nothing", lambda: 1 // 0)


def test_a_difference_that_settles_is_no_fault() -> None:
    looks: list[int] = []

    def look(_: Facts, __: Subject) -> Iterator[Result]:
        looks.append(1)
        yield failed("they differ") if len(looks) == 1 else passed("they agree")

    unsettled = Check("A", "t", "w", "r", look, settles=0.001)
    plan = Plan((Runbook("r", "t", (unsettled,)),), Subject())

    (found,) = Session(Still(), plan, Silent()).run()  # type: ignore[arg-type]

    assert found.finding.status is Status.PASS


def test_a_fault_that_only_counts_on_is_not_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its words count has changed, and it is the same one: its fix is made once."""
    monkeypatch.setattr(treating, "_LOOK_SECONDS", 0.0)
    looks: list[int] = []

    def look(_: Facts, __: Subject) -> Iterator[Result]:
        looks.append(1)
        yield failed(f"full in {len(looks)} s", fix=Fix("make room", now=(("true",),)))

    class Agreeing(Silent):
        def agrees(self, finding: Finding) -> bool:
            return True

    plan = Plan((Runbook("r", "t", (check("A", look),)),), Subject())

    (found,) = Session(Still(), plan, Agreeing()).run()  # type: ignore[arg-type]

    assert (found.cured, found.says) == (False, "it is as before")
