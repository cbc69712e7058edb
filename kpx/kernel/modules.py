"""Kernel modules: whether they are there, and loading them.

A module that is built into the kernel is there too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_LOADED = Path("/sys/module")
_BUILT_IN = "/lib/modules/{release}/modules.builtin"
_PATIENCE_SECONDS = 30


def present(name: str) -> bool:
    """Whether a module is loaded, or built in."""
    if (_LOADED / name).is_dir():
        return True
    listed = Path(_BUILT_IN.format(release=os.uname().release))
    try:
        return any(Path(line).name.split(".")[0].replace("-", "_") == name for line in listed.read_text().splitlines())
    except OSError:
        return False


def load(names: Iterable[str]) -> dict[str, str]:
    """Load those modules that are not there; return why for each that cannot be loaded."""
    return {name: why for name in names if not present(name) and (why := _load(name))}


def loadable(name: str) -> str:
    """What keeps a module that is not there from being loaded, found out without loading it; empty for nothing."""
    return "" if present(name) else _modprobe("--dry-run", name)


def _load(name: str) -> str:
    return _modprobe("--verbose", name)


def _modprobe(how: str, name: str) -> str:
    if not (program := shutil.which("modprobe")):
        return "modprobe is not installed (package kmod)"
    try:
        done = subprocess.run(
            [program, how, name], capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"modprobe ended with status {done.returncode}" if done.returncode else ""


def remedy(names: Iterable[str]) -> str:
    """The commands that load modules, now and at every boot."""
    loaded = " ".join(names)
    lines = loaded.replace(" ", r"\n")
    return f"run 'modprobe -a {loaded}', and for every boot 'printf \"{lines}\\n\" > /etc/modules-load.d/kpx.conf'"
