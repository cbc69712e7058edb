"""`kpx migrate`: the plan goes to standard output; nothing on the node is changed."""

from __future__ import annotations

import os
import sys

import msgspec

from kpx.migrate import reading
from kpx.migrate.facts import MODES
from kpx.migrate.plan import plan
from kpx.migrate.text import text
from kpx.tools.errors import OK, UsageError, reported

NOT_READY = 3


def run(mode: str, scheduler: str, *, as_json: bool) -> int:
    """`kpx migrate`: to a mode, or to that in force where none is named."""
    return reported("migrate", lambda: _run(mode, scheduler, as_json))


def _run(mode: str, scheduler: str, as_json: bool) -> int:
    if mode and mode not in MODES:
        raise UsageError(f"there is no mode {mode}: it is one of {', '.join(MODES)}")
    facts = reading.read(scheduler)
    made = plan(facts, mode or facts.mode or "nftables")
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(made)).decode())
    else:
        print(text(made, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return OK if made.ready else NOT_READY
