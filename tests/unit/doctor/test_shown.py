"""Findings as text, XML and one line."""

from __future__ import annotations

from xml.etree import ElementTree

from kpx.doctor.finding import Evidence, Finding, Fix, Place, Result, Status
from kpx.doctor.shown import others
from kpx.doctor.shown.text import Style, finding_text, summary_text

FIX = Fix(
    "switch it on, for which there is more than one way, of which this is the shortest that anybody knows",
    now=(("sysctl", "-w", "net.ipv4.ip_forward=1"), ("echo", "a word")),
    keep=("echo 'net.ipv4.ip_forward = 1' >> /etc/sysctl.d/90-kpx.conf",),
    undo=(("sysctl", "-w", "net.ipv4.ip_forward=0"),),
    foreign=True,
)


def finding(status: Status = Status.FAIL, says: str = "packets are not forwarded", fix: Fix | None = FIX) -> Finding:
    evidence = (Evidence("0", "/proc/sys/net/ipv4/ip_forward"), Evidence("\x1b[2J <&>", "a rule of others"))
    result = Result(status, says, evidence, "shop/web", fix, "sysctl net.ipv4.ip_forward")
    return Finding("KPX-KN-001", "clusterip", "the node forwards", "Else they end here.", ("https://a.b",), result, 0.5)


def test_text_fits_and_is_plain() -> None:
    text = finding_text(finding(), Style())

    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.strip().startswith("#")) <= 80
    assert lines[0] == "  FAIL  KPX-KN-001  shop/web: packets are not forwarded"
    assert "                # sysctl -w net.ipv4.ip_forward=1" in lines
    assert "                # echo 'a word'" in lines
    assert "(it is another" in text
    assert text.isascii()
    assert "\x1b" not in text


def test_colour_is_for_the_word_alone() -> None:
    assert finding_text(finding(), Style(colour=True)).splitlines()[0].startswith("  \x1b[31mFAIL \x1b[0m KPX-KN-001")


def test_what_is_well_is_one_line() -> None:
    assert finding_text(finding(Status.PASS), Style()) == "  ok    KPX-KN-001  the node forwards"
    assert len(finding_text(finding(Status.PASS), Style(verbose=True)).splitlines()) > 3


def test_what_is_to_be_done_by_hand_is_said() -> None:
    by_hand = Fix("edit it", now=(("kubectl", "edit", "service", "web"),), place=Place.BY_HAND)
    assert "fix:    edit it (by hand)" in finding_text(finding(fix=by_hand), Style())


def test_the_last_line_counts() -> None:
    found = [finding(), finding(Status.WARN), finding(Status.PASS), finding(Status.PASS)]
    assert summary_text(found, 1, 2.34, Style()) == "1 failed, 1 warnings, 2 ok, 1 fixed; 2.3 s"


def test_junit_is_xml_whatever_the_evidence_holds() -> None:
    found = [finding(), finding(Status.SKIP), finding(Status.ERROR), finding(Status.PASS)]
    root = ElementTree.fromstring(others.junit(found, 1.0))

    (suite,) = root
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "clusterip",
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    assert suite[0].find("failure") is not None


def test_a_line_for_node_problem_detector() -> None:
    line, status = others.npd([finding(says="x" * 200), finding()])
    assert (len(line), status) == (80, 1)
    assert line.endswith("(+1)")
    assert others.npd([finding(Status.ERROR)])[1] == 2
    assert others.npd([finding(Status.PASS)]) == ("Services are served as they should be", 0)
