"""What is given to the restore programs: as it is made, however much it is, whatever becomes of the program."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from kpx.kernel.iptables import program
from kpx.kernel.iptables.program import Iptables, IptablesError, Variant
from kpx.net import Family


@pytest.fixture(params=list(Variant), ids=lambda variant: variant.value)
def iptables(request: pytest.FixtureRequest) -> Iptables:
    return Iptables(Family.IPV4, request.param)


def test_a_program_that_ends_early_says_why_and_which_line(iptables: Iptables) -> None:
    def lines() -> Iterator[str]:
        yield "*nat"
        yield ":MINE - [0:0]"
        yield from (f"-A MINE -d 10.0.{number >> 8}.{number & 255}/32 -j RETURN" for number in range(5000))
        yield "-A MINE --nonsense"
        yield from (f":KUBE-SEP-{number:016} - [0:0]" for number in count())

    with pytest.raises(IptablesError) as caught:
        iptables.restore(lines())

    told = str(caught.value).splitlines()
    assert "nonsense" in told[0]
    assert told[-7:-3] == [
        *(f"  {number + 3}: -A MINE -d 10.0.19.{number & 255}/32 -j RETURN" for number in (4997, 4998, 4999)),
        "  5003: -A MINE --nonsense",
    ]
    assert ":MINE" not in "\n".join(iptables.save("nat"))


def test_nothing_is_committed_of_input_that_cannot_be_made(iptables: Iptables) -> None:
    def lines() -> Iterator[str]:
        yield from ("*nat", ":MINE - [0:0]")
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        iptables.restore(lines())

    assert ":MINE" not in "\n".join(iptables.save("nat"))


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 60")
    hanging.chmod(0o755)
    monkeypatch.setattr(program, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(Iptables, "program", lambda *_: str(hanging))

    with pytest.raises(IptablesError, match=r"did not end within 0\.2 s"):
        Iptables(Family.IPV4, Variant.NFT).restore("a line" for _ in count())
