"""Who holds the xtables lock, from /proc/locks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kpx.doctor.facts import Holder
from kpx.doctor.reading.processes import holder

_LOCK = "/run/xtables.lock"
_VARIABLE = "XTABLES_LOCKFILE"  # iptables(8)
# A sync of many rules needs the lock for a while: looked at again after this, one that still has it is told of.
_SECONDS, _LOOKS = 0.1, 6


def path() -> Path:
    return Path(os.environ.get(_VARIABLE) or _LOCK)


def lasting_holder() -> Holder | None:
    """Who has the lock at every look."""
    first = _holder()
    for _ in range(_LOOKS):
        if first is None:
            return None
        time.sleep(_SECONDS)
        if _holder() != first:
            return None
    return holder(first, f"{path()}, at every look for {_SECONDS * _LOOKS:g} s") if first else None


def _holder() -> int | None:
    try:
        status = path().stat()
    except OSError:
        return None
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if "->" not in words and words[5:6] == [wanted]:
            return int(words[4])
    return None
