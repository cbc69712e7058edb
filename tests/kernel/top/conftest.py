"""`kpx top` on the node of a lab whose Services get traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE
from kpx.tools.cluster import Options
from kpx.top.app import TopApp
from kpx.top.glyphs import UNICODE
from kpx.top.reading.node import NodeReader
from kpx.top.sampler import Sampler
from tests.kernel.daemon.conftest import daemons, lab_of, node
from tests.kernel.daemon.process import DEADLINE_SECONDS

__all__ = ["daemons", "node"]

Scenario = Callable[["Driver"], Awaitable[None]]
Named = Callable[[Path], None]

_INTERVAL = 0.2


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


class Driver:
    """The app, driven by keys; what is on its screen is waited for."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        return self.app.screen_text()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause()

    async def until(self, *texts: str) -> str:
        """The screen once all these texts are on it."""
        return await self.once(lambda: all(text in self.text for text in texts), f"{texts} to be on the screen")

    async def once(self, true: Callable[[], bool], what: str = "that") -> str:
        """The screen once something is true."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                while not true():
                    await self.pilot.pause(0.02)
            except asyncio.CancelledError:
                print(f"waited for {what}; the screen is\n{self.text}\n{self.app.latest.faults}")
                raise
        return self.text


def drive(place: Lab, scenario: Scenario, options: Options | None = None, size: tuple[int, int] = (120, 40)) -> None:
    """Run the app on the lab's node."""

    async def run() -> None:
        app = TopApp(Sampler(NodeReader(options or Options()), _INTERVAL), UNICODE)
        async with app.run_test(size=size) as pilot:
            await scenario(Driver(app, pilot))

    with namespaces.entered(place.namespace(NODE)):
        asyncio.run(run())


@pytest.fixture
def socket_path(monkeypatch: pytest.MonkeyPatch) -> Named:
    """Names the daemon that is asked."""

    def named(path: Path) -> None:
        monkeypatch.setenv("KPX_SOCKET", str(path))
        monkeypatch.setenv("KUBECONFIG", "")
        monkeypatch.setenv("HOME", "/nowhere")

    return named
