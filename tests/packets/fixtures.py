"""The lab that the packet scenarios share: made once for a session, removed at its end, however it ends."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

import pytest

from kpx import lab
from kpx.lab import Lab, state
from kpx.lab.topology import Topology

_OURS = re.compile(r"t(\d+)")


@pytest.fixture(scope="session")
def scenario_lab() -> Iterator[Lab]:
    """A lab with all the pods that the scenarios name, without a daemon."""
    _remove_leftovers()
    name = f"t{os.getpid()}"
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield lab.up(name, topology=Topology(tuple(range(10, 20)), tuple(range(10, 21))), daemon=None)
    finally:
        lab.down(name)
        signal.signal(signal.SIGTERM, former)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Take a termination as an interrupt, so that the lab is removed."""
    raise KeyboardInterrupt


def _remove_leftovers() -> None:
    """Remove the labs of earlier sessions that were killed."""
    with suppress(FileNotFoundError):
        for folder in list(state.ROOT.iterdir()):
            match = _OURS.fullmatch(folder.name)
            if match and state.start_time(int(match[1])) is None:
                lab.down(folder.name)
