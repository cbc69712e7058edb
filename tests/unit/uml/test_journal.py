"""What arrives from the guest's pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uml.journal import Reader, Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


def test_reports_arrive_in_order_and_by_test(path: Path) -> None:
    writer, reader = Writer(path), Reader(path)
    writer.started("a")
    writer.report("a", {"when": "setup"})
    reader.update()
    assert (reader.running, reader.finished("a"), reader.reports("a")) == ("a", False, [{"when": "setup"}])

    writer.report("a", {"when": "call", "longrepr": "ä\n"})
    writer.finished("a")
    reader.update()
    assert (reader.running, reader.finished("a")) == (None, True)
    assert reader.reports("a") == [{"when": "setup"}, {"when": "call", "longrepr": "ä\n"}]
    assert (reader.finished("b"), reader.reports("b")) == (False, [])


def test_a_line_is_read_once_it_is_complete(path: Path) -> None:
    Writer(path).finished("test[a long name]")
    line, reader = path.read_bytes(), Reader(path)

    path.write_bytes(line[:12])
    reader.update()
    assert not reader.finished("test[a long name]")

    path.write_bytes(line)
    reader.update()
    assert reader.finished("test[a long name]")
