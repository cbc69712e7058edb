"""A bundle may come from anybody."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from kpx.bundle import archive
from kpx.tools.errors import ToolError


def test_a_small_file_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a header, which is read as a whole."""
    file = tmp_path / "b.tar.gz"
    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as made:
        head = tarfile.TarInfo("node/manifest.json")
        head.pax_headers = {"comment": "0" * 1_000_000}
        made.addfile(head)
    monkeypatch.setattr(archive._Bounded, "_left", 100_000)

    with pytest.raises(ToolError, match="it holds more than"):
        archive.Archive(file)
