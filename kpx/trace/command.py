"""``kpx trace``: from its arguments to what it prints and its exit status."""

from __future__ import annotations

import os
import shutil
import sys

from kpx.kernel.iptables.program import IptablesError
from kpx.trace.document import encode
from kpx.trace.reading.kernel import CannotTrace, trace_here
from kpx.trace.reading.senders import UnknownSender
from kpx.trace.result import Trace, Verdict
from kpx.trace.target import BadTarget, Target, parse_target
from kpx.trace.text import Style, render

OK, CANNOT, USAGE, REFUSED = 0, 1, 2, 3
_COLUMNS = 80


def resolve(text: str) -> Target:
    """The target that a text names. Raises `BadTarget`."""
    return parse_target(text)


def run(text: str, sender: str, *, as_json: bool = False, every_hop: bool = False) -> int:
    """Trace and print. The status is 0 if a packet gets through on every way, 3 if on some it does not."""
    try:
        trace = trace_here(resolve(text), sender)
    except (BadTarget, UnknownSender) as error:
        print(f"kpx trace: {error}", file=sys.stderr)
        return USAGE
    except (CannotTrace, IptablesError, OSError) as error:
        print(f"kpx trace: {error}", file=sys.stderr)
        return CANNOT
    print(encode(trace) if as_json else _printable(render(trace, _style(every_hop=every_hop))))
    return _status(trace)


def _status(trace: Trace) -> int:
    through = (Verdict.SENT, Verdict.DELIVERED)
    return OK if all(branch.ending.verdict in through for branch in trace.branches) else REFUSED


def _style(*, every_hop: bool) -> Style:
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size((_COLUMNS, 24)).columns if terminal else _COLUMNS
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(max(columns, 40), colour, every_hop)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()
