"""Commands confined as a container runtime confines the daemon of the manifests with least privilege."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.deployment import least_capabilities

LOCK = "/run/xtables.lock"

# As a runtime has it: nothing to write but what is mounted to be written, and no setting of the kernel.
_READ_ONLY = """
touch "$2"
for writable in "$1" "$2"; do
    mount --bind "$writable" "$writable"
done
mount --bind /proc/sys /proc/sys
mount --bind /sys /sys
for kept in /proc/sys /sys /; do
    mount -o remount,bind,ro "$kept"
done
shift 2
exec "$@"
"""


def confined(command: Sequence[str], folder: Path, capabilities: Iterable[str] = ()) -> list[str]:
    """A command that may write to a folder and iptables' lock alone, with these capabilities or the manifests'."""
    kept = ",".join(["-all", *(f"+{one}" for one in capabilities or least_capabilities())])
    privileges = ["setpriv", "--no-new-privs", f"--bounding-set={kept}", "--inh-caps=-all"]
    shell = ["bash", "-euc", _READ_ONLY, "-", str(folder), LOCK]
    return ["unshare", "--mount", "--propagation", "private", *shell, *privileges, *command]
