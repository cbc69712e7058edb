"""The command line: ``./dev bench`` is ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from benchmarks import dataplane, guest, start_and_change, sync, top, trace
from benchmarks.client import Unanswered
from benchmarks.network import alone
from benchmarks.processes import Failed
from benchmarks.progress import Progress
from benchmarks.report import Column, machine, table
from benchmarks.subjects import SUBJECTS, Subject


def main(argv: Sequence[str]) -> int:
    """Run the benchmark of a command line; the results go to the standard output."""
    arguments = _parser().parse_args(argv)
    variants = SUBJECTS[arguments.mode]
    if arguments.variant not in (None, *variants):
        print(f"mode {arguments.mode} has the variants {', '.join(variants)}", file=sys.stderr)
        return 2
    if os.geteuid():
        print("the benchmarks make network namespaces, which only root may: run them with sudo", file=sys.stderr)
        return 1
    subject = variants[arguments.variant or next(iter(variants))]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up then, too
    if arguments.mode == "ipvs" and guest.needed():
        return guest.run(argv)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is measured is compiled, as where it is installed
    logging.disable()  # what the daemon's parts would say here, the daemon says in its own log
    try:
        with Progress() as progress, alone(lambda: progress.step("waiting for another benchmark to end")):
            print(arguments.run(subject, arguments, progress))
    except (Failed, Unanswered, OSError) as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--mode", choices=SUBJECTS, default="iptables", help="the proxy mode (default: iptables)")
    common.add_argument("--variant", help="of iptables mode: nft (default) or legacy")
    common.add_argument("--runs", type=int, default=1, help="so many runs of each; the best figures count")
    common.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure kpx, beside the floor of the kernel.")
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    start = commands.add_parser(
        "start-and-change", parents=[common], help="from the daemon's start, and from a change, to the first answer"
    )
    start.add_argument("--services", type=int, nargs="+", default=[1000, 5000, 10000])
    start.add_argument("--changes", type=int, default=20, help="how many changes to time (default: 20)")
    start.add_argument("--idle", type=float, default=10.0, help="seconds to watch the idle daemon (default: 10)")
    start.set_defaults(run=_start_and_change)
    own = commands.add_parser("sync", parents=[common], help="the daemon's own part of a change, in one process")
    own.add_argument("--services", type=int, nargs="+", default=[1000, 5000, 10000])
    own.add_argument("--changes", type=int, default=50, help="how many changes to time (default: 50)")
    own.set_defaults(run=_sync)
    rate = commands.add_parser("dataplane", parents=[common], help="new connections through a ClusterIP")
    rate.add_argument("--services", type=int, nargs="+", default=[0, 1, 1000, 10000])
    rate.add_argument("--seconds", type=float, default=5.0, help="length of a measurement (default: 5)")
    rate.set_defaults(run=_dataplane)
    tracing = commands.add_parser("trace", parents=[common], help="how long kpx trace takes")
    tracing.add_argument("--services", type=int, nargs="+", default=[1000, 10000])
    tracing.add_argument("--traces", type=int, default=20, help="how many traces to time (default: 20)")
    tracing.set_defaults(run=_trace)
    watching = commands.add_parser("top", parents=[common], help="how soon kpx top shows a node, and what it uses")
    watching.add_argument("--services", type=int, nargs="+", default=[1000, 10000])
    watching.add_argument("--seconds", type=float, default=20.0, help="how long to watch (default: 20)")
    watching.set_defaults(run=_top)
    return parser


Measured = Callable[[Subject, int, argparse.Namespace, Progress], Iterable[Any]]


def _table(columns: Iterable[Column[Any]], measure: Measured, *more: str) -> Callable[..., str]:
    """What measures with every number of Services, so many times, and tells; `more` names fields of a result."""

    def run(subject: Subject, arguments: argparse.Namespace, progress: Progress) -> str:
        runs: dict[tuple[str, ...], list[Any]] = {}
        for services in arguments.services:
            for number in range(arguments.runs):
                progress.of(f"{subject.name}, {services} Services, run {number + 1}")
                for result in measure(subject, services, arguments, progress):
                    fields = (str(getattr(result, name)) for name in more)
                    runs.setdefault((result.subject, f"{services:,}", *fields), []).append(result)
        return _report(arguments.output, ["mode", "services", *more], columns, runs)

    return run


_start_and_change = _table(
    start_and_change.COLUMNS,
    lambda subject, services, asked, progress: [
        start_and_change.run(subject, services, asked.changes, asked.idle, progress)
    ],
)
_sync = _table(
    sync.COLUMNS,
    lambda subject, services, asked, progress: [sync.run(subject, services, asked.changes, progress)],
)
_dataplane = _table(
    dataplane.COLUMNS,
    lambda subject, services, asked, progress: dataplane.run(subject, services, asked.seconds, progress),
    "to",
)
_trace = _table(
    trace.COLUMNS,
    lambda subject, services, asked, progress: [trace.run(subject, services, asked.traces, progress)],
)
_top = _table(
    top.COLUMNS,
    lambda subject, services, asked, progress: [top.run(subject, services, asked.seconds, progress)],
)


def _report(
    output: str, names: list[str], columns: Iterable[Column[Any]], runs: dict[tuple[str, ...], list[Any]]
) -> str:
    if output == "json":
        results = [result for of_one in runs.values() for result in of_one]
        return msgspec.json.format(msgspec.json.encode({"machine": machine(), "results": results})).decode()
    return f"{table(names, list(columns), runs.items())}\n\n{machine()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
