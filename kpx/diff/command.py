"""`kpx diff`: results go to standard output, what is to be said of them to standard error."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from kpx.diff.comparing import compared
from kpx.diff.report import Report, Style, document, lines
from kpx.proxier.frontends import ServicePortName
from kpx.tables.screen import Screen
from kpx.tools import cluster
from kpx.tools.cluster import Cluster, Options
from kpx.tools.errors import ToolError, UsageError
from kpx.tools.services import Filter
from kpx.tools.services_command import named

SAME, DIFFERENT, USAGE, COULD_NOT_RUN = 0, 1, 2, 4
_COLUMNS = 80

Chosen = Callable[[ServicePortName], bool]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be compared, and how it is shown. ``seconds`` is how often, None for once."""

    name: str = ""
    namespace: str = ""
    as_json: bool = False
    seconds: float | None = None


def run(wish: Wish, options: Options) -> int:
    """`kpx diff`. The status is 0 where all is equal, 1 where something differs, 2 for bad usage, 4 for no answer."""
    try:
        return _once(wish, options) if wish.seconds is None else _watch(wish, options, wish.seconds)
    except UsageError as error:
        return _failed(error, USAGE)
    except ToolError as error:
        return _failed(error, COULD_NOT_RUN)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return _failed("reading the kernel's rules needs root (CAP_NET_ADMIN): run it with sudo", COULD_NOT_RUN)
        return _failed(f"the kernel's rules cannot be read: {error}", COULD_NOT_RUN)


def _failed(why: object, status: int) -> int:
    print(f"kpx diff: {why}", file=sys.stderr)
    return status


def _once(wish: Wish, options: Options) -> int:
    report = _report(wish, options)
    if wish.as_json:
        print(msgspec.json.format(msgspec.json.encode(document(report))).decode())
    else:
        print("".join(f"kpx diff: {note}\n" for note in report.notes), end="", file=sys.stderr)
        print("\n".join(_printable(line) for line in lines(report, _style())))
    return DIFFERENT if report.differences else SAME


def _watch(wish: Wish, options: Options, seconds: float) -> int:
    """Again and again until it is interrupted; JSON is one document a line. The status is that of the last time."""
    screen, status = Screen(sys.stdout), SAME
    try:
        while True:
            started = time.monotonic()
            report = _report(wish, options)
            status = DIFFERENT if report.differences else SAME
            if wish.as_json:
                print(msgspec.json.encode(document(report)).decode(), flush=True)
            else:
                screen.draw([_printable(line) for line in lines(report, _style())])
            time.sleep(max(0.0, seconds - (time.monotonic() - started)))
    except KeyboardInterrupt:
        return status


def _report(wish: Wish, options: Options) -> Report:
    report = _look(wish, options)
    if not report.differences:
        return report
    # Changes may be under way: only what is still there at a second look is told.
    again, first = _look(wish, options), set(report.differences)
    return replace(again, differences=tuple(one for one in again.differences if one in first))


def _look(wish: Wish, options: Options) -> Report:
    wanted = cluster.wanted(options)
    chosen = _chosen(wish, wanted)
    report = compared(wanted, chosen)
    return replace(report, notes=(*wanted.notes, *report.notes))


def _chosen(wish: Wish, wanted: Cluster) -> Chosen:
    """Which service ports are shown. Raises `UsageError`, or `ToolError` with what is near."""
    namespace = wish.namespace
    if not wish.name:
        return lambda port: not namespace or port.namespace == namespace
    found: Filter = named(wish.name, wanted, Filter(namespace))
    pattern: re.Pattern[str] | None = found.pattern
    return lambda port: (
        (not namespace or port.namespace == namespace)
        and (pattern is None or pattern.search(str(port)) is not None)
        and (found.ports is None or port in found.ports)
    )


def _style() -> Style:
    terminal = sys.stdout.isatty()
    columns = shutil.get_terminal_size((_COLUMNS, 24)).columns if terminal else _COLUMNS
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(max(columns, 40), colour)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()
