"""`kpx bundle`, and the commands that work on a bundle."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec

from kpx import __version__
from kpx.bundle import archive
from kpx.bundle.archive import Manifest
from kpx.bundle.opened import Bundle
from kpx.doctor import command as doctor_command
from kpx.doctor.session import Reread
from kpx.tools import services_command
from kpx.tools.cluster import Options
from kpx.tools.errors import OK, ToolError, UsageError, reported
from kpx.trace import command as trace_command


class Wish(msgspec.Struct, frozen=True):
    """Where the bundle goes to, how long a part may take, and how many flows it holds at most."""

    path: str = ""
    seconds: float = 10.0
    flows: int = 10_000


def run(wish: Wish, options: Options) -> int:
    """`kpx bundle`: the exit status."""
    return reported("bundle", lambda: _make(wish, options))


def _make(wish: Wish, options: Options) -> int:
    if os.geteuid():
        raise ToolError("the kernel shows its rules to root only: run it with sudo")
    from kpx.bundle.collecting import Collector

    now = time.time()
    collector = Collector(options, wish.seconds, wish.flows, _progress)
    node = collector.node or os.uname().nodename
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    folder = f"kpx-bundle-{node}-{stamp}"
    path = Path(wish.path or f"{folder}.tar.gz")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}")
    collector.collect()
    _progress("")
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    manifest = Manifest(__version__, node, made, os.uname().release, tuple(collector.parts))
    archive.write(path, folder, manifest, collector.files, now)
    for part in collector.parts:
        if part.error:
            print(f"kpx bundle: not whole: {part.name}: {part.error}", file=sys.stderr)
    print(f"{path}  {path.stat().st_size // 1024 + 1} KiB, {len(collector.files) + 1} files")
    if collector.hangs:  # a program that it waits for would hold the end of this process up
        sys.stdout.flush()
        os._exit(OK)
    return OK


def _progress(part: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{part and f'reading {part} ...'}", end="", file=sys.stderr, flush=True)


def services(path: str, wish: services_command.Wish) -> int:
    """`kpx services --bundle`."""

    return reported("services", lambda: services_command.run(wish, Bundle(Path(path)).options))


def trace(path: str, wish: trace_command.Wish) -> int:
    """`kpx trace --bundle`."""

    def work() -> int:
        bundle = Bundle(Path(path))
        return trace_command.run(wish, bundle.options, bundle.answer)

    return reported("trace", work)


def doctor(path: str, wish: doctor_command.Wish) -> int:
    """`kpx doctor --bundle`."""

    def opened() -> Reread:
        from kpx.bundle.facts import RecordedFacts

        return cast(Reread, RecordedFacts(Bundle(Path(path))))

    return doctor_command.run(replace(wish, dry_run=True), Options(), opened)
