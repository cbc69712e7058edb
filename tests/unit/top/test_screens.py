"""Every screen as text at every size: whole, aligned, with nothing cut off that matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot

from kpx.top.app import TopApp
from kpx.top.glyphs import ASCII, UNICODE, Glyphs
from kpx.top.snapshot import Differences, Snapshot
from tests.unit.top.canned import FRONT, snapshot
from tests.unit.top.conftest import drive, first_screen, press, same_as_file

SIZES = {"60x20": (60, 20), "80x24": (80, 24), "120x40": (120, 40)}
# The keys that lead from one screen to the next.
WAY = (
    ("services", ""),
    ("filtered", "slash ! s h o p enter"),
    ("help", "escape question_mark"),
    ("endpoints", "escape end enter"),
    ("rules-of", "enter"),
    ("trace", "escape t"),
    ("rules", "3"),
    ("conntrack", "4"),
    ("syncs", "5"),
    ("sync", "enter"),
)


def screens(size: tuple[int, int], glyphs: Glyphs = UNICODE) -> dict[str, str]:
    """What is on each screen."""
    found: dict[str, str] = {}

    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        for name, keys in WAY:
            await press(pilot, *keys.split())
            found[name] = app.screen_text()

    drive(scenario, size, glyphs=glyphs)
    return found


@pytest.mark.parametrize("size", SIZES)
def test_screens(size: str) -> None:
    found = screens(SIZES[size])

    for name, text in found.items():
        assert len(text.splitlines()) == SIZES[size][1]
        assert "? Help  q Quit" in text.splitlines()[-1]
        assert "1 Services" in text
        assert "6 Doctor" in text
        same_as_file(text, f"{name}-{size}")


def test_screens_in_ascii() -> None:
    for name, text in screens((80, 24), ASCII).items():
        assert text.isascii()
        same_as_file(text, f"{name}-ascii")


def nothing_but_faults() -> Snapshot:
    return Snapshot(
        snapshot().wall,
        faults=("reading the kernel's rules needs root (CAP_NET_ADMIN): run it with sudo",),
        notes=("no kpx daemon answers at /run/kpx/kpx.sock",),
    )


def test_every_screen_says_what_it_could_not_read() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        for key in "12345":
            await press(pilot, key)
            assert "needs root (CAP_NET_ADMIN): run it with sudo" in app.screen_text()
            assert "no kpx daemon answers" in app.screen_text()

    drive(scenario, found=nothing_but_faults())


def test_a_daemon_that_is_gone_leaves_what_was_known() -> None:
    gone = replace(snapshot(), faults=("no kpx daemon answers at /run/kpx/kpx.sock",))

    same_as_file(first_screen(gone), "daemon-gone-80x24")


def test_what_differs_from_what_is_wanted_is_said_at_once() -> None:
    wrong = Differences(
        {FRONT: ("endpoint 10.244.21.31:8080 is missing", "it is not masqueraded")},
        ("the jump to KUBE-SERVICES is missing in chain PREROUTING of table nat",),
    )

    same_as_file(first_screen(replace(snapshot(), differences=wrong)), "differences-80x24")


def test_nothing_yet() -> None:
    same_as_file(first_screen(Snapshot(0.0)), "nothing-yet-80x24")


def test_signs_of_both_sets_are_one_column_wide() -> None:
    for glyphs in (UNICODE, ASCII):
        assert all(len(one) == 1 for one in (glyphs.rising, glyphs.falling, glyphs.cut, glyphs.full, glyphs.empty))
