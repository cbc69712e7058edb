"""All faults by name, and planting and mending them."""

from __future__ import annotations

from kpx.lab import lifecycle
from kpx.lab.faults import cluster, node, rules
from kpx.lab.faults.fault import Fault
from kpx.lab.faults.site import Site, planted, take_back
from kpx.lab.lifecycle import LabError

FAULTS: dict[str, Fault] = {
    one.name: one for one in sorted((*cluster.FAULTS, *node.FAULTS, *rules.FAULTS), key=lambda one: one.name)
}


def plant(lab_name: str, name: str) -> Fault:
    """Plant a fault. Raises `LabError`; then nothing of it is left."""
    lab = lifecycle.status(lab_name)
    if name not in FAULTS:
        raise LabError(f"there is no fault {name!r}: `kpx lab break --list` shows all")
    fault = FAULTS[name]
    if lab.mode not in fault.modes:
        raise LabError(f"{name} can be planted in mode {' or '.join(fault.modes)} only; this lab is in mode {lab.mode}")
    if name in planted(lab_name):
        raise LabError(
            f"{name} is planted already: mend it first with `{lifecycle.named_command('mend', lab_name)} {name}`"
        )
    try:
        fault.plant(Site(lab, name))
    except BaseException as failure:
        if name in planted(lab_name):
            take_back(lab, name)
        if isinstance(failure, OSError | RuntimeError):
            raise LabError(f"{name} could not be planted: {failure}") from failure
        raise
    return fault


def mend(lab_name: str, name: str = "") -> list[str]:
    """Take a fault back, or all that are planted; return their names. Raises `LabError`."""
    lab = lifecycle.status(lab_name)
    there = planted(lab_name)
    if name and name not in there:
        known = (
            "" if name in FAULTS else f": there is no such fault, `{lifecycle.named_command('break', lab_name)} --list`"
        )
        raise LabError(f"{name} is not planted in lab {lab_name!r}{known}")
    chosen = [name] if name else there
    for one in chosen:
        take_back(lab, one)
    return chosen
