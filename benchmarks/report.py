"""Results as Markdown tables."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks.guest import inside

R = TypeVar("R")
_VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """A figure of a result, and how it is written. Of several runs the least counts, or where `more` the most."""

    title: str
    figure: Callable[[R], float]
    form: str
    more: bool = False

    def best(self, runs: Iterable[R]) -> float:
        return (max if self.more else min)(map(self.figure, runs))

    def spread(self, runs: Sequence[R]) -> float:
        """By what part of the least one the figures of the runs differ."""
        figures = [self.figure(run) for run in runs]
        return max(figures) / min(figures) - 1 if min(figures) else 0.0


def table(names: Sequence[str], columns: Sequence[Column[R]], rows: Iterable[tuple[Sequence[str], Sequence[R]]]) -> str:
    """A Markdown table. A row is what names it, and the results of its runs."""
    lines = [[*names, *(column.title for column in columns)], ["---"] * len(names) + ["---:"] * len(columns)]
    for name, runs in rows:
        lines.append([*name, *(column.form.format(column.best(runs)) for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percentile(values: Iterable[float], percent: float) -> float:
    """The least of the values that so many percent of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def machine() -> str:
    """``2 cores, Linux 6.18, iptables 1.8.9, nft 1.0.6, Python 3.11``; of a guest, that it is one."""
    kernel = ".".join(platform.release().split(".")[:2])
    python = ".".join(platform.python_version_tuple()[:2])
    programs = (f"{program} {_version(program)}" for program in ("iptables", "nft"))
    guest = ["a User Mode Linux guest"] if inside() else []
    return ", ".join([*guest, f"{os.cpu_count()} cores", f"Linux {kernel}", *programs, f"Python {python}"])


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = _VERSION.search(done.stdout)
    return found[0] if found else "(unknown version)"
