"""The doctor in a lab in which faults are planted, asked as an operator asks it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from kpx import lab
from kpx.cli import app
from kpx.lab import Lab, lifecycle, namespaces
from kpx.lab.faults import catalogue
from kpx.lab.faults.fault import Fault, Visit
from kpx.lab.requests import Outcome, Request, send
from kpx.lab.state import State
from kpx.lab.topology import NODE, ROUTER
from kpx.proxier.unix_socket import VARIABLE
from tests.kernel.daemon.process import eventually

# What is skipped in a healthy lab: connections are tried only for a Service that is named.
NOT_TRIED = {"KPX-IP-007", "KPX-IP-008", "KPX-NP-006"}
# A table of 262,144 entries takes a while to fill: that is done where the limit can be lowered (tests/ipvs).
QUICK = [one for one in catalogue.FAULTS if one != "conntrack-full"]
# What no command on the node mends: the cluster's objects, a choice of the operator's, or who runs the other proxy.
BY_HAND = {
    "address-conflict",
    "narrow-node-port-addresses",
    "no-endpoints",
    "no-local-endpoint",
    "none-ready",
    "second-proxy",
    "silent-pods",
    "wrong-target-port",
}
OF_IPVS = {"KPX-CT-008", "KPX-CT-009", "KPX-BP-001", "KPX-BP-002", "KPX-IP-011"}


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor said, and its exit status."""

    status: int
    report: dict[str, Any]

    def of(self, status: str) -> list[dict[str, Any]]:
        return [one for one in self.report["findings"] if one["status"] == status]

    def ids(self, *statuses: str) -> set[str]:
        return {one["id"] for one in self.report["findings"] if one["status"] in statuses}

    def finding(self, check: str) -> dict[str, Any]:
        """The first fault that a check has found."""
        return next(one for one in self.of("fail") if one["id"] == check)


@dataclass(frozen=True)
class Clinic:
    """A lab with its daemon, and the doctor in it."""

    place: Lab

    def run(self, *words: str) -> tuple[int, str]:
        """Run kpx on the node, as `kpx lab exec` does, but without a process more."""
        state = State(self.place.name)
        environment = {
            VARIABLE: str(state.run / "kpx" / "kpx.sock"),
            "XTABLES_LOCKFILE": str(state.run / "xtables.lock"),
            lifecycle.RESTART: " ".join(lifecycle.restart_command(self.place.name)),
        }
        with namespaces.entered(self.place.namespace(NODE)), patch.dict(os.environ, environment):
            done = CliRunner().invoke(app, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        return done.exit_code, done.stdout

    def doctor(self, *words: str) -> Diagnosis:
        """Ask the doctor; a daemon that is dead cannot say what is wanted, so the manifests do."""
        alive = all(one.alive for one in lab.status(self.place.name).processes)
        source = () if alive else ("--manifests", str(self.place.manifests), "--node", NODE)
        status, text = self.run("doctor", *words, *source, "-o", "json")
        return Diagnosis(status, json.loads(text))

    def look(self, fault: Fault, *words: str) -> Diagnosis:
        """Ask the runbook that finds a fault."""
        return self.doctor(*filter(None, (fault.runbook, fault.service)), *words)

    @contextmanager
    def planted(self, name: str) -> Iterator[Fault]:
        try:
            yield catalogue.plant(self.place.name, name)
        finally:
            catalogue.mend(self.place.name)

    def answered(self, visit: Visit) -> bool:
        request = Request(self.place.namespace(visit.place), visit.protocol, visit.address, visit.port, timeout=0.5)
        (reply,) = send([request])
        # Not by one of the lab's servers, but by the daemon: a health-check node port.
        daemons = reply.outcome is Outcome.FAILED and reply.detail.startswith("no answer of the lab's")
        return daemons or (reply.outcome is Outcome.ANSWERED and reply.answers != ROUTER)

    def spoiled(self, fault: Fault) -> None:
        """Wait until the fault does what it is there for."""
        if fault.spoils.place:
            eventually(lambda: not self.answered(fault.spoils), what=f"{fault.name} spoils nothing")

    def sound(self, fault: Fault) -> None:
        """Wait until the packets go through again."""
        if fault.spoils.place:
            eventually(lambda: self.answered(fault.spoils), what=f"after {fault.name} nothing answers")


@contextmanager
def clinic(mode: str, *, legacy: bool = False) -> Iterator[Clinic]:
    """A lab in a mode; with `legacy` its node is one on which the kubelet uses iptables-legacy."""
    name = f"k{os.getpid()}{mode[:2]}{'l' * legacy}"
    try:
        place = lab.up(name, mode=mode, daemon=None) if legacy else lab.up(name, mode=mode)
        if legacy:
            with namespaces.entered(place.namespace(NODE)):
                hint = ["iptables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"]
                subprocess.run(hint, check=True)
            lifecycle.restart(name)
        yield Clinic(place)
    finally:
        lab.down(name)


def found_and_mended(here: Clinic, name: str, *, alone: bool = False) -> None:
    """The fault is found, by its id and with evidence, and its fix mends it: the packets go through again.

    With `alone` only the check is made that finds it, and not its whole runbook.
    """
    with here.planted(name) as fault:
        here.spoiled(fault)
        # The daemon takes a moment to see a manifest.
        words = ("--id", fault.found_by) if alone else ()
        found = eventually(lambda: here.look(fault, *words), lambda seen: fault.found_by in seen.ids("fail"), name)
        assert found.status == 3
        assert not found.of("error")
        told = found.finding(fault.found_by)
        assert all(one["value"] and one["source"] for one in told["evidence"])
        assert told["evidence"]
        assert told["fix"]["now"]
        assert (told["fix"]["place"] != "node") == (name in BY_HAND)
        if name not in BY_HAND:
            treated = here.look(fault, "--fix", "--yes", "--id", fault.found_by)
            assert [one["fixed"] for one in treated.report["findings"] if one["fix"]][:1] == [True], treated.report
            assert treated.status == 0
            here.sound(fault)
            assert not here.look(fault, "--id", fault.found_by).ids("fail", "warn")
    here.sound(fault)


def healthy(here: Clinic, skipped: set[str]) -> None:
    """Nothing is wrong, and only so much is skipped."""
    found = here.doctor("--strict")
    assert not found.ids("fail", "warn", "error"), found.report["findings"]
    assert found.status == 0
    assert found.ids("skip") <= skipped


def healthy_service(here: Clinic, service: str) -> None:
    """Nothing is wrong with a Service that is named: its endpoints were asked, directly and through it."""
    found = here.doctor("clusterip", service, "--strict")
    assert found.status == 0, found.report["findings"]
    assert {"KPX-IP-007", "KPX-IP-008"} <= found.ids("pass")
