"""iptables mode: a node whose kubelet uses one of the variants, and the restore program as the floor."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from kpx.kernel.iptables.program import LOCK_SECONDS, Iptables, Variant
from kpx.kernel.nfacct import AccountingUnsupported, ensure
from kpx.net import Family
from kpx.proxier.iptables.mode import IptablesMode
from kpx.proxier.iptables.settings import INVALID_DROPPED, LOCALHOST_ACCEPTED

_KUBELET_CHAIN = "KUBE-IPTABLES-HINT"


@dataclass(frozen=True)
class Recorder(Iptables):
    """Programs that read nothing and record what they were to write."""

    inputs: list[str] = field(default_factory=list)

    def save(self, table: str | None = None) -> Iterator[str]:
        return iter(())

    def restore(self, lines: Iterable[str]) -> int:
        self.inputs.append("\n".join(lines) + "\n")
        return 0


class IptablesRecording:
    """A `Recording` of restore inputs."""

    def __init__(self, variant: Variant) -> None:
        self._programs = Recorder(Family.IPV4, variant)
        self.mode = IptablesMode(self._programs)

    def close(self) -> None:
        """Nothing is held."""

    def take(self) -> list[str]:
        taken = list(self._programs.inputs)
        self._programs.inputs.clear()
        return taken

    def send(self, written: str) -> None:
        restore(self._programs, written)


@dataclass(frozen=True, slots=True)
class IptablesSubject:
    """A `Subject`: iptables mode in one variant."""

    variant: Variant
    mode: str = "iptables"

    @property
    def name(self) -> str:
        return f"iptables-{self.variant.value}"

    def prepare(self) -> None:
        """Leave the chain by which a kubelet tells other programs which variant it uses.

        What the rules count in is there too: the floor's rules were worked out on another node.
        """
        for family in Family:
            _run([Iptables(family, self.variant).program(), "-t", "mangle", "-N", _KUBELET_CHAIN], "")
        for name in (INVALID_DROPPED, LOCALHOST_ACCEPTED):
            with suppress(AccountingUnsupported):
                ensure(name)

    def working(self) -> IptablesMode:
        return IptablesMode(Iptables(Family.IPV4, self.variant))

    def recording(self) -> IptablesRecording:
        return IptablesRecording(self.variant)


def restore(programs: Iptables, written: str) -> None:
    """Run the restore program. Raises OSError."""
    _run([programs.program("restore"), "-w", str(LOCK_SECONDS), "--noflush"], written)


def _run(command: list[str], text: str) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
