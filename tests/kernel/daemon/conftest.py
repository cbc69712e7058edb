"""Daemons that are started for a test, and ended with it."""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpx import lab
from kpx.kernel import nfacct
from kpx.lab import Lab, objects, state
from kpx.lab.topology import DEFAULT, Topology
from kpx.proxier.iptables.settings import INVALID_DROPPED, LOCALHOST_ACCEPTED
from tests.kernel.daemon.process import KPX, Daemon

FIXTURE = Path(__file__).parents[2] / "fixtures" / "kube-proxy-1.36"


class Node:
    """What a node has for its daemon: a configuration file and a folder of manifests, both like the lab's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.manifests = folder / "manifests"
        objects.write_manifests(self.manifests, DEFAULT, 0)
        self.configure()

    def configure(self, **overrides: Any) -> None:
        """Write the configuration file: the lab's, with these fields. A change is programmed without delay."""
        prompt = {"iptables": {"minSyncPeriod": "1ms"}}
        objects.write_configuration(self.config, objects.configuration("iptables", {**prompt, **overrides}))

    def serve(self, *served: Mapping[str, Any]) -> None:
        """Have these objects, and no others."""
        for manifest in self.manifests.iterdir():
            manifest.unlink()
        self.write("objects.yaml", *served)

    def write(self, name: str, *objects: Mapping[str, Any]) -> None:
        """Write a manifest."""
        (self.manifests / name).write_text(yaml.safe_dump_all(objects))

    @property
    def command(self) -> list[str]:
        return [*KPX, "daemon", "--config", str(self.config), "--manifests", str(self.manifests)]


class Daemons:
    """Starts daemons, and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._started: list[Daemon] = []

    def start(self, *command: str, namespace: str | None = None, path: Path | None = None) -> Daemon:
        daemon = Daemon(command, self._folder / f"daemon-{next(self._numbers)}.log", namespace, path)
        self._started.append(daemon)
        return daemon

    def end(self) -> None:
        """End all. Whatever the test was about, none of them may have met an error that it did not expect."""
        for daemon in self._started:
            if daemon.process.poll() is None:
                daemon.end(signal.SIGKILL)
        for daemon in self._started:
            assert "Traceback" not in daemon.log, daemon.log


def fixture_objects() -> list[dict[str, Any]]:
    """The objects from which kube-proxy made the rules, metrics and answers in the fixtures."""
    return list(yaml.safe_load_all((FIXTURE / "objects.yaml").read_text()))


def counts_packets() -> bool:
    """Whether the kernel has accounting objects (nfacct), which the rules of iptables mode count in."""
    try:
        for name in (INVALID_DROPPED, LOCALHOST_ACCEPTED):
            nfacct.ensure(name)
    except nfacct.AccountingUnsupported:
        return False
    return True


def stock_rules(program: str) -> str:
    """The rules that kube-proxy made with this program from the fixture's objects, fit for restoring here."""
    text = (FIXTURE / f"{program}-save.txt").read_text()
    if counts_packets():
        return text
    return re.sub(r"^.* -m nfacct .*KUBE-EXT.*\n| -m nfacct --nfacct-name +\S+", "", text, flags=re.M)


@contextmanager
def lab_of(topology: Topology = DEFAULT) -> Iterator[Lab]:
    """A lab without a daemon."""
    _remove_leftovers()
    name = f"d{os.getpid()}"
    try:
        yield lab.up(name, topology=topology, daemon=None)
    finally:
        lab.down(name)


def _remove_leftovers() -> None:
    """Remove the labs of sessions that were killed."""
    for folder in list(state.ROOT.iterdir()) if state.ROOT.is_dir() else ():
        match = re.fullmatch(r"d(\d+)", folder.name)
        if match and state.start_time(int(match[1])) is None:
            lab.down(folder.name)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node that has the manifests of a lab."""
    return Node(tmp_path / "node")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    started = Daemons(tmp_path)
    try:
        yield started
    finally:
        started.end()
