"""``kpx trace --if``: the command of `kpx trace`, answered as if something were otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from kpx.tools.cluster import Options
from kpx.tools.errors import USAGE, UsageError
from kpx.trace import command
from kpx.whatif.answering import answering
from kpx.whatif.assumptions import parse


def run(wish: command.Wish, options: Options, texts: Iterable[str]) -> int:
    """Trace and print; the status is that of `kpx trace`."""
    try:
        assumptions = parse(texts)
    except UsageError as error:
        print(f"kpx trace: {error}", file=sys.stderr)
        return USAGE
    return command.run(wish, options, answering(assumptions))
