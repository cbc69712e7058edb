"""The place where faults are planted, and the record of how each is taken back.

Every step of a fault notes its undoing before it is made, in ``faults/NAME`` of the lab's folder: so a fault that was
planted by half, or mended by somebody already, is taken back all the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kpx.kernel import sysctl
from kpx.kernel.iptables.program import find
from kpx.lab import lifecycle, namespaces, state
from kpx.lab.lifecycle import DAEMON, Lab, LabError
from kpx.lab.state import Process, State
from kpx.lab.topology import NODE
from kpx.net import Family

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """A lab, and the fault that is planted in it."""

    lab: Lab
    fault: str

    @property
    def state(self) -> State:
        return State(self.lab.name)

    @property
    def _record(self) -> Path:
        return self.state.folder / "faults" / self.fault

    def note(self, kind: str, *words: str) -> None:
        """Note a step that takes something back; steps are taken the last one first."""
        self._record.parent.mkdir(exist_ok=True)
        with self._record.open("a", encoding="utf-8") as record:
            record.write(json.dumps([kind, *words]) + "\n")

    # Steps.

    def run(self, *argv: str, place: str = NODE, stdin: str | None = None) -> str:
        """Run a program in a place; what it printed. Raises `LabError`."""
        environment = os.environ | {"XTABLES_LOCKFILE": str(self.lock)}
        with namespaces.entered(self.lab.namespace(place)):
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise LabError(f"{' '.join(argv)} failed: {done.stderr.strip()}")
        return done.stdout

    def undo(self, *argv: str, place: str = NODE) -> None:
        """Note a program to run."""
        self.note("run", place, *argv)

    @property
    def lock(self) -> Path:
        return self.state.run / "xtables.lock"

    def iptables(self, family: Family = Family.IPV4, place: str = NODE) -> str:
        """The program of iptables that the node uses."""
        with namespaces.entered(self.lab.namespace(place)):
            return find(family).program()

    def insert(self, table: str, chain: str, *rule: str, place: str = NODE) -> None:
        """A rule of somebody else, in front of all others of its chain."""
        base = (self.iptables(place=place), "-w", "5", "-t", table)
        self.undo(*base, "-D", chain, *rule, place=place)
        self.run(*base, "-I", chain, *rule, place=place)

    def set(self, name: str, value: int) -> None:
        """A sysctl of the node."""
        with namespaces.entered(self.lab.namespace(NODE)):
            self.note("sysctl", name, sysctl.read(name))
            sysctl.write(name, value)

    def edit(self, manifest: str, change: Callable[[list[Object]], None]) -> None:
        """Change the objects of a manifest."""
        path = self.lab.manifests / manifest
        before = path.read_text(encoding="utf-8")
        self.note("write", str(path), before)
        objects = [one for one in yaml.safe_load_all(before) if one]
        change(objects)
        path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")

    def add(self, manifest: str, *objects: Object) -> None:
        """A manifest more."""
        path = self.lab.manifests / manifest
        self.note("remove", str(path))
        path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")

    def configure(self, change: Object) -> None:
        """Other fields of the daemon's configuration; it is started anew."""
        before = self.lab.config.read_text(encoding="utf-8")
        self.note("restart")
        self.note("write", str(self.lab.config), before)
        configured = {**yaml.safe_load(before), **change}
        self.lab.config.write_text(yaml.safe_dump(configured, sort_keys=False), encoding="utf-8")
        lifecycle.restart(self.lab.name)

    def kill_daemon(self) -> None:
        """End the daemon as a crash does: nothing keeps the rules any more."""
        self.note("revive")
        state.kill(self._daemons())

    def hold_daemon(self) -> None:
        """Stop the daemon in the midst of whatever it does."""
        for one in self._daemons():
            self.note("continue", str(one.pid), str(one.started))
            state.hold(one)

    def _daemons(self) -> list[Process]:
        return [one for one in self.state.processes() if one.role == DAEMON and one.alive]

    def start(self, program: str, name: str = "python") -> None:
        """A process of that name on the node that runs Python until it is ended; it prints a line once it works."""
        with namespaces.entered(self.lab.namespace(NODE)):
            process = subprocess.Popen(
                [name, "-c", program],
                executable=sys.executable,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        lifecycle.adopt(process)
        self.note("end", str(process.pid), str(state.start_time(process.pid) or 0))
        assert process.stdout is not None
        with process.stdout:
            if not process.stdout.readline():
                raise LabError("the process of the fault did not start")


def planted(name: str) -> list[str]:
    """The faults that a lab has."""
    folder = State(name).folder / "faults"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def take_back(lab: Lab, fault: str) -> None:
    """Take a fault back, step by step: what is back already is no error."""
    site = Site(lab, fault)
    record = State(lab.name).folder / "faults" / fault
    steps = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    for kind, *words in reversed(steps):
        _STEPS[kind](site, *words)
    record.unlink()


def _run(site: Site, place: str, *argv: str) -> None:
    with suppress(LabError):
        site.run(*argv, place=place)


def _sysctl(site: Site, name: str, value: str) -> None:
    with namespaces.entered(site.lab.namespace(NODE)):
        sysctl.write(name, value)


def _write(_: Site, path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


def _remove(_: Site, path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _restart(site: Site) -> None:
    lifecycle.restart(site.lab.name)


def _revive(site: Site) -> None:
    """Start the daemon, unless somebody has: then it has mended its rules."""
    if not any(one.role == DAEMON and one.alive for one in site.state.processes()):
        lifecycle.restart(site.lab.name)


def _continue(_: Site, pid: str, started: str) -> None:
    state.let_go(Process(DAEMON, int(pid), int(started)))


def _end(_: Site, pid: str, started: str) -> None:
    state.end([Process("fault", int(pid), int(started))])


_STEPS: dict[str, Callable[..., None]] = {
    "run": _run,
    "sysctl": _sysctl,
    "write": _write,
    "remove": _remove,
    "restart": _restart,
    "revive": _revive,
    "continue": _continue,
    "end": _end,
}
