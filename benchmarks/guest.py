"""The benchmark once more, in a guest whose kernel has IPVS, where this machine's own has none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable
from tests.uml.guest import RUNNER, missing

# A sparse file on the host: what is not used costs nothing.
_MEMORY = "3G"
_FAILED = 1


def inside() -> bool:
    """Whether this is such a guest."""
    return "UML_RUN" in os.environ


def needed() -> bool:
    """Whether the kernel has no IPVS, and is not the guest's."""
    try:
        with Ipvs():
            return False
    except IpvsUnavailable:
        return not inside()


def run(arguments: Sequence[str]) -> int:
    """Run the benchmark with these arguments in a guest; return its exit status."""
    if reason := missing():
        print(f"the kernel has no IPVS (module ip_vs), and there is {reason}", file=sys.stderr)
        return _FAILED
    print("the kernel has no IPVS: going on in a User Mode Linux guest", file=sys.stderr)
    command = [str(RUNNER), "--mem", _MEMORY, "--timeout", "0", "--", sys.executable, "-m", "benchmarks", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as runner:
        try:
            return runner.wait()
        finally:
            runner.terminate()  # it ends the guest
