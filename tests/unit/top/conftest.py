"""Apps that are driven without a terminal."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from kpx.top.app import TopApp
from kpx.top.glyphs import UNICODE, Glyphs
from kpx.top.snapshot import Snapshot
from tests.unit.top.canned import Canned, snapshot

Scenario = Callable[[TopApp, Pilot[None]], Awaitable[None]]

SCREENS = Path(__file__).parent / "screens"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are of no certain zone, and what the terminal is like has no say."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def drive(
    scenario: Scenario,
    size: tuple[int, int] = (80, 24),
    found: Snapshot | None = None,
    glyphs: Glyphs = UNICODE,
    source: Canned | None = None,
) -> Canned:
    """Run the app on a canned snapshot, and the scenario on it; returns its source."""
    source = source or Canned(found or snapshot())

    async def run() -> None:
        app = TopApp(source, glyphs)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.pause()
            await scenario(app, pilot)

    asyncio.run(run())
    return source


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, and wait until what they do is drawn."""
    for key in keys:
        await pilot.press(key)
        await pilot.pause()
    await pilot.pause()


def first_screen(found: Snapshot) -> str:
    """What is seen first."""
    texts: list[str] = []

    async def scenario(app: TopApp, _: Pilot[None]) -> None:
        texts.append(app.screen_text())

    drive(scenario, found=found)
    return texts[0]


def same_as_file(text: str, name: str) -> None:
    """The screen is as in the file of that name; UPDATE_SCREENS=1 writes the files anew, to be looked at."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        path.write_text(f"{text}\n", encoding="utf-8")
    assert f"{text}\n" == path.read_text(encoding="utf-8")
