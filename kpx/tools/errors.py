"""Why a tool stops, and the status that it then ends with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

OK, COULD_NOT_RUN, USAGE = 0, 1, 2


class ToolError(Exception):
    """The tool could not do what it was asked; the text says why and what to do, for people."""


class UsageError(ToolError):
    """What was asked makes no sense."""


def reported(command: str, work: Callable[[], int]) -> int:
    """Run a command; why it could not be run goes to standard error. Returns its exit status."""
    try:
        return work()
    except UsageError as error:
        print(f"kpx {command}: {error}", file=sys.stderr)
        return USAGE
    except ToolError as error:
        print(f"kpx {command}: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except BrokenPipeError:  # what reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
