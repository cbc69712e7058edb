"""What the commands ``kpx lab …`` print. Results go to standard output, progress and faults to standard error."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from kpx.lab import lifecycle
from kpx.lab.demo import Result, visit
from kpx.lab.faults import catalogue, site
from kpx.lab.faults.fault import Fault
from kpx.lab.lifecycle import DEFAULT_NAME, Lab, LabError
from kpx.lab.topology import NODE
from kpx.lab.traffic import flow
from kpx.net import Family

OK, COULD_NOT_RUN, FAILED = 0, 1, 3
# What prints the rules of a mode.
_RULES = {"iptables": "iptables-save -t nat", "ipvs": "ipvsadm -Ln", "nftables": "nft list table ip kpx"}


def _reported(run: Callable[[], int]) -> int:
    try:
        return run()
    except LabError as error:
        print(f"kpx lab: {error}", file=sys.stderr)
        return COULD_NOT_RUN


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def up(name: str, mode: str, services: int) -> int:
    """`kpx lab up`."""

    def run() -> int:
        _progress(f"making lab {name!r} with the daemon in mode {mode} ...")
        print(_introduction(lifecycle.up(name, mode=mode, services=services)))
        return OK

    return _reported(run)


def down(name: str) -> int:
    """`kpx lab down`."""

    def run() -> int:
        print(f"lab {name!r} is removed" if lifecycle.down(name) else f"there is no lab {name!r}: nothing to remove")
        return OK

    return _reported(run)


def status(name: str, *, as_json: bool) -> int:
    """`kpx lab status`."""

    def run() -> int:
        lab = lifecycle.status(name)
        print(json.dumps(_facts(lab), indent=2) if as_json else _described(lab))
        return OK if lab.healthy else FAILED

    return _reported(run)


def execute(name: str, place: str, command: Sequence[str]) -> int:
    """`kpx lab exec`: becomes the program; returns only if that fails. Finds `kpx` where this one runs from, too."""

    def run() -> int:
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
        if not shutil.which(command[0]):
            raise LabError(f"there is no program {command[0]!r}")
        lifecycle.exec(name, place, command)
        return OK

    return _reported(run)


def restart(name: str) -> int:
    """`kpx lab restart`."""

    def run() -> int:
        lifecycle.restart(name)
        print(f"the daemon of lab {name!r} runs anew")
        return OK

    return _reported(run)


def break_(name: str, fault: str) -> int:
    """`kpx lab break FAULT`."""

    def run() -> int:
        planted = catalogue.plant(name, fault)
        print(f"{planted.name}: {planted.says}\n\nTry:\n  {_doctor(name, planted)}")
        print(f"  {_kpx()} lab mend {planted.name}{_option(name)}")
        return OK

    return _reported(run)


def _doctor(name: str, fault: Fault) -> str:
    """The doctor's command; a daemon that is dead cannot say what is wanted, so the manifests do."""
    lab = lifecycle.status(name)
    source = "" if all(one.alive for one in lab.processes) else f" --manifests {lab.manifests} --node {NODE}"
    words = " ".join(filter(None, ("doctor", fault.runbook, fault.service)))
    return f"{_kpx()} lab exec{_option(name)} node-a {_kpx()} {words}{source}"


def list_faults(name: str) -> int:
    """`kpx lab break --list`."""

    def run() -> int:
        there = site.planted(name)
        for one in catalogue.FAULTS.values():
            print(f"{'*' if one.name in there else ' '} {one.name:<26} {one.says}")
        return OK

    return _reported(run)


def mend(name: str, fault: str) -> int:
    """`kpx lab mend [FAULT]`."""

    def run() -> int:
        mended = catalogue.mend(name, fault)
        print(f"mended: {', '.join(mended)}" if mended else "nothing is planted")
        return OK

    return _reported(run)


def demo(name: str, mode: str, *, check: bool) -> int:
    """`kpx lab demo`."""

    def run() -> int:
        if lifecycle.down(name):
            _progress(f"removed the lab {name!r} that was there")
        _progress(f"making lab {name!r} with the daemon in mode {mode} ...")
        lab = lifecycle.up(name, mode=mode)
        try:
            ok = _visits(lab)
        finally:
            if check:
                lifecycle.down(name)
        if not check:
            _watch(lab)
            print(f"\n{_introduction(lab)}")
        return OK if ok else FAILED

    return _reported(run)


def traffic(name: str, per_second: float) -> int:
    """`kpx lab traffic`."""

    def run() -> int:
        place, stop = lifecycle.status(name), threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        _progress(f"about {per_second:g} connections a second in lab {name!r}, until Ctrl-C")
        flow(place, per_second, stop)
        return OK

    return _reported(run)


def _watch(lab: Lab) -> None:
    """Show `kpx top` on the node, with light traffic, until somebody leaves it; nothing where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    kpx = [sys.executable, "-m", "kpx"]
    with subprocess.Popen([*kpx, "lab", "traffic", "--name", lab.name], stderr=subprocess.DEVNULL) as traffic:
        try:
            subprocess.run(lifecycle.command(lab.name, NODE, [*kpx, "top"]), check=False)
        finally:
            traffic.terminate()


_ROW = "{:<30} {:<8} {:<26} {:<12} {}"


def _visits(lab: Lab) -> bool:
    """Make and print the visits; return whether all went as they should."""
    print(_ROW.format("WHAT", "FROM", "TO", "ANSWERED", "SEEN AS"))
    wrong = 0
    for result in visit(lab):
        wrong += not result.ok
        print(_line(result), flush=True)
    print("\nall as it should be" if not wrong else f"\n{wrong} not as it should be: see the marked lines")
    return not wrong


def _line(result: Result) -> str:
    visited = result.visit
    answered = " ".join(result.answered) or result.outcome
    line = _ROW.format(visited.shows, visited.place, visited.target, answered, " ".join(result.seen_as)).rstrip()
    if result.ok:
        return line
    wanted = " ".join(sorted(visited.answers)) or "a refusal"
    seen = f" seen as {visited.seen_as}" if visited.seen_as else ""
    return f"{line}\n  WRONG: should be {wanted}{seen}; some were: {result.outcome}"


def _introduction(lab: Lab) -> str:
    """The lab, and what to try in it."""
    option, kpx = _option(lab.name), _kpx()
    rules = _RULES.get(lab.mode, _RULES["iptables"])
    return "\n".join(
        [
            _described(lab),
            "",
            "Try:",
            f"  {kpx} lab exec{option} node-a kpx top                      # the node, live",
            f"  {kpx} lab traffic{option}                                      # something to see there",
            f"  {kpx} lab exec{option} client curl -s 10.199.0.21:30080        # a node port, from outside",
            f"  {kpx} lab exec{option} a11 curl -s 10.96.100.1                 # a ClusterIP, from a pod",
            f"  {kpx} lab exec{option} node-a {rules}  # the rules",
            f"  {kpx} lab exec{option} node-a curl -s 127.0.0.1:10249/metrics  # the metrics",
            f"  edit a file in {lab.manifests}: the rules follow",
            f"  {kpx} lab down{option}",
        ]
    )


def _option(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"


def _kpx() -> str:
    """How kpx is called here."""
    return shutil.which("kpx") or f"{sys.executable} -m kpx"


def _described(lab: Lab) -> str:
    rows = [("PLACE", "ROLE", "ADDRESSES", "NAMESPACE")]
    rows += [
        (place.name, place.role.value, " ".join((*place.addresses, *place.further)), lab.namespace(place.name))
        for place in lab.places
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}" for row in rows]
    lines += [""] + [
        f"{process.role}: {f'runs, pid {process.pid}' if process.alive else 'does not run'}"
        for process in lab.processes
    ]
    lines += [f"namespace {name} is missing" for name in lab.missing]
    return "\n".join(lines)


def _facts(lab: Lab) -> dict[str, object]:
    return {
        "name": lab.name,
        "mode": lab.mode,
        "healthy": lab.healthy,
        "manifests": str(lab.manifests),
        "config": str(lab.config),
        "places": [
            {
                "name": place.name,
                "role": place.role.value,
                "namespace": lab.namespace(place.name),
                "ipv4": place.address(Family.IPV4),
                "ipv6": place.address(Family.IPV6),
            }
            for place in lab.places
        ],
        "missing": list(lab.missing),
        "processes": [{"role": one.role, "pid": one.pid, "alive": one.alive} for one in lab.processes],
    }
