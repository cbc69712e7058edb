"""What a node says of itself, beside what its bundle says elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from kpx.lab.faults.fault import Fault
from tests.kernel.doctor.clinic import Clinic

# What is counted goes on, and what is measured is so once: of these only how they stand is compared.
_LIVELY = ("KPX-CT-", "KPX-SY-", "KPX-PX-002")
_COUNTED = re.compile(r" \[\d+ packets\]")
PROBING = {"KPX-IP-007", "KPX-IP-008", "KPX-NP-006"}

# Runs commands of kpx, one after the other, in one process.
_SCRIPT = """
import json, sys
from typer.testing import CliRunner
from kpx.cli import app
done = [CliRunner().invoke(app, words) for words in json.loads(sys.argv[1])]
print(json.dumps([(one.exit_code, one.stdout, one.stderr) for one in done]))
"""

Commands = Sequence[Sequence[str]]
Said = tuple[int, str, str]


def elsewhere(bundle: Path, commands: Commands) -> list[Said]:
    """What commands say that are asked of a bundle, in an empty network namespace, and without any capability."""
    words = [[*one, "--bundle", str(bundle)] for one in commands]
    bare = ["unshare", "--net", "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run(
        [*bare, sys.executable, "-c", _SCRIPT, json.dumps(words)], capture_output=True, text=True, check=True
    )
    return [tuple(one) for one in json.loads(done.stdout)]


def here(node: Clinic, commands: Commands) -> list[Said]:
    return [(*node.run(*one), "") for one in commands]


def findings(said: Said) -> list[dict[str, Any]]:
    """Those that need no probing; what the clock says is left out."""
    found = []
    for one in json.loads(_COUNTED.sub("", said[1]))["findings"]:
        if one["id"] not in PROBING:
            names = ("id", "status") if one["id"].startswith(_LIVELY) else [name for name in one if name != "seconds"]
            found.append({name: one[name] for name in names})
    return found


def rows(said: Said) -> Any:
    return json.loads(said[1])["services"]


def traces(said: Said) -> Any:
    """Counters and flows are the kernel's of that moment."""
    return json.loads(said[1], object_hook=_still)["traces"]


def _still(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in ("packets", "flows")}


SERVICES = ("services", "-o", "json")
TRACES: Commands = [
    ("trace", target, "--via", "all", "--from", sender, "-o", "json")
    for target, sender in (
        ("shop/web", "pod"),
        ("shop/front", "external"),
        ("shop/dns", "node"),
        ("shop/shopfront", "external"),
        ("shop/empty", "pod"),
    )
]


def the_same(node: Clinic, bundle: Path, fault: Fault, *, alone: bool = False) -> None:
    """A fault was planted: the bundle tells of the node what the node tells of itself; `alone`, of one runbook."""
    doctor = [("doctor", fault.runbook, fault.service or "shop/web", "-o", "json")]
    if not alone:
        doctor.append(("doctor", "-o", "json"))
    on_services = here(node, [SERVICES])
    assert node.run("bundle", "-o", str(bundle))[0] == 0
    on_doctor, on_traces = here(node, doctor), here(node, TRACES)

    off = elsewhere(bundle, [SERVICES, *doctor, *TRACES])

    assert rows(off[0]) == rows(on_services[0])
    for one, other in zip(off[1 : 1 + len(doctor)], on_doctor, strict=True):
        differing = [both for both in zip_longest(findings(one), findings(other)) if both[0] != both[1]]
        assert not differing, differing
        assert one[0] == other[0]
    assert fault.found_by in {each["id"] for each in findings(off[1]) if each["status"] == "fail"}
    for one, other in zip(off[1 + len(doctor) :], on_traces, strict=True):
        assert one[0] == other[0], one
        assert traces(one) == traces(other)
