from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kpx.config.watching import watch_file

Start = Callable[[Path], threading.Event]


@pytest.fixture
def start() -> Iterator[Start]:
    """Watches a file until the test ends; gives an event that is set by a change."""
    stop = threading.Event()
    threads = []

    def begin(path: Path) -> threading.Event:
        changed = threading.Event()
        threads.append(watch_file(path, changed.set, stop))
        return changed

    yield begin
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("mode: iptables")
    return path


def test_a_write_counts(file: Path, start: Start) -> None:
    changed = start(file)
    file.write_text("mode: nftables")
    assert changed.wait(10)


def test_a_rename_counts(file: Path, start: Start) -> None:
    changed = start(file)
    file.rename(file.with_suffix(".old"))
    assert changed.wait(10)


def test_nothing_else_counts(file: Path, start: Start) -> None:
    changed = start(file)
    file.chmod(0o600)
    file.read_text()
    file.with_suffix(".new").write_text("mode: ipvs")
    file.unlink()
    assert not changed.wait(0.3)


def test_the_swapped_link_of_a_configmap_volume_does_not_count(tmp_path: Path, start: Start) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.yaml").write_text(version)
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "config.yaml").symlink_to("data/config.yaml")
    changed = start(tmp_path / "config.yaml")
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").replace(tmp_path / "data")
    (tmp_path / "v1" / "config.yaml").unlink()
    assert (tmp_path / "config.yaml").read_text() == "v2"
    assert not changed.wait(0.3)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cannot be watched"):
        watch_file(tmp_path / "none", lambda: None, threading.Event())
