"""A bundle of a node in mode ipvs, where iptables is the legacy one and the kernel has no nftables for IP."""

from __future__ import annotations

from pathlib import Path

from tests.kernel.bundle.comparison import the_same
from tests.kernel.doctor.clinic import clinic


def test_what_a_bundle_says_in_mode_ipvs(tmp_path: Path) -> None:
    with clinic("ipvs") as ipvs, ipvs.planted("foreign-dnat") as fault:
        the_same(ipvs, tmp_path / "b.tar.gz", fault, alone=True)
