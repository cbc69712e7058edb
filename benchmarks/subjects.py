"""What can be measured: the proxy modes, in their variants."""

from __future__ import annotations

from typing import Any, Protocol

from benchmarks.iptables import IptablesSubject
from benchmarks.ipvs import IpvsSubject
from benchmarks.nftables import NftablesSubject
from kpx.kernel.iptables.program import Variant
from kpx.proxier.site import Mode


class Recording(Protocol):
    """A mode that records what it writes, and the bare way to write it."""

    @property
    def mode(self) -> Mode: ...

    def close(self) -> None:
        """Record no more; `send` still works."""

    def take(self) -> list[Any]:
        """What was recorded since the last call: inputs for `send`, in order."""

    def send(self, written: Any) -> None:
        """Write an input. Raises OSError."""


class Subject(Protocol):
    """A proxy mode, perhaps in one of several variants."""

    @property
    def name(self) -> str:
        """What it is called in the results."""

    @property
    def mode(self) -> str:
        """The mode in the daemon's configuration."""

    def prepare(self) -> None:
        """Make the node, in whose namespace the calling thread is, what a kubelet leaves to a proxy."""

    def working(self) -> Mode:
        """The mode as the daemon has it; called in the node's namespace."""

    def recording(self) -> Recording:
        """What measures the floor; called in the node's namespace."""


# By mode and variant; the first variant of a mode is its default.
SUBJECTS: dict[str, dict[str, Subject]] = {
    "iptables": {variant.value: IptablesSubject(variant) for variant in (Variant.NFT, Variant.LEGACY)},
    "ipvs": {"netlink": IpvsSubject()},
    "nftables": {"netlink": NftablesSubject()},
}
