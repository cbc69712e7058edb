"""What `benchmarks.top` runs on the node: `kpx top` without a terminal, with keys pressed, and a watch on its loop.

It prints what it measured as one JSON document.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from kpx.tools.cluster import Options
from kpx.top.command import opened
from kpx.top.wish import Wish

_BEAT = 0.005
_SIZE = (160, 50)
# Sort by every column and back, filter, scroll, look into a Service and at the other pages.
_KEYS = (*(">" * 8), *("<" * 8), "r", "r", "/", *"service-0", "enter", "escape", "end", "home")
_KEYS_PAGES = (*["pagedown"] * 20, "end", "enter", "enter", "escape", "escape", "4", "5", "1")


class Blocked(msgspec.Struct):
    """The longest that the loop was kept from drawing: by the clock, and by what it did itself (processor time)."""

    clock: float = 0.0
    own: float = 0.0


class Result(msgspec.Struct):
    """Times in seconds; ``keys`` while keys are pressed, ``idle`` while not. ``cpu`` is a part of one processor."""

    painted: float
    painted_cpu: float
    keys: Blocked
    idle: Blocked
    cpu: float
    memory: int
    counted_every: float


async def _measure(started: float, seconds: float) -> Result:
    app = opened(Wish(), Options())
    async with app.run_test(size=_SIZE) as pilot:
        while not app.shown.services or "service-0" not in app.screen_text():
            await pilot.pause(_BEAT)
        painted, painted_cpu = time.time() - started, _processor_seconds()
        while app.shown.counted is None or not app.shown.counted.every:
            await pilot.pause(_BEAT)
        with _watched() as keys:
            for key in (*_KEYS, *_KEYS_PAGES):
                await pilot.press(key)
                await pilot.pause()
        with _watched() as idle:
            await asyncio.sleep(seconds)
        before, began = _processor_seconds(), time.monotonic()
        await asyncio.sleep(seconds)
        cpu = (_processor_seconds() - before) / (time.monotonic() - began)
        assert app.shown.counted is not None
        return Result(painted, painted_cpu, keys, idle, cpu, _resident(), app.shown.counted.every)


@contextmanager
def _watched() -> Iterator[Blocked]:
    """The longest delay of a beat on this loop."""
    found = Blocked()

    async def beat() -> None:
        while True:
            before, used = time.monotonic(), time.thread_time()
            await asyncio.sleep(_BEAT)
            found.clock = max(found.clock, time.monotonic() - before - _BEAT)
            found.own = max(found.own, time.thread_time() - used)

    task = asyncio.get_running_loop().create_task(beat())
    try:
        yield found
    finally:
        task.cancel()


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _resident() -> int:
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(_measure(float(sys.argv[1]), float(sys.argv[2])))).decode())
