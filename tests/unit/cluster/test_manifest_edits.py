"""Objects from files: what an edit changes."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from kpx import inotify
from kpx.cluster.events import ClusterError, Rejected, Removed
from kpx.cluster.manifests import ManifestSource
from kpx.inotify import Inotify
from tests.unit.cluster.conftest import NODE, following
from tests.unit.cluster.objects import Mirror, key, service, text, wait_until


@pytest.fixture
def mirror(folder: Path) -> Iterator[Mirror]:
    """What a proxy knows of a folder with the Services a and b, each in a file."""
    (folder / "a.yaml").write_text(text(service("a")))
    (folder / "b.yaml").write_text(text(service("b")))
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
        yield mirror


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace_as_editors_do(path: Path, content: bytes) -> None:
    new = path.with_name(".new.swp")
    new.write_bytes(content)
    new.rename(path)


@pytest.mark.parametrize("save", [overwrite, replace_as_editors_do])
def test_an_edit_shows(folder: Path, mirror: Mirror, save: Callable[[Path, bytes], None]) -> None:
    before = len(mirror.events)
    save(folder / "a.yaml", text(service("a", "10.96.0.9")).encode())
    mirror.wait(lambda: mirror.address("a") == "10.96.0.9")
    assert len(mirror.events) == before + 1, "only what was edited is told"


def test_edits_in_a_row_all_show(folder: Path, mirror: Mirror) -> None:
    """Also where size and time of the file stay the same."""
    for number in range(10, 60):
        (folder / "a.yaml").write_text(text(service("a", f"10.96.0.{number}")))
    mirror.wait(lambda: mirror.address("a") == "10.96.0.59")
    assert not any(isinstance(event, Removed) for event in mirror.events)


def test_a_file_that_becomes_empty_leaves_its_objects_as_they_were(
    folder: Path, mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.yaml").write_text("")
    wait_until(lambda: "a.yaml is empty" in caplog.text)
    (folder / "a.yaml").write_text("# nothing any more\n")
    mirror.wait(lambda: mirror.names() == {"b"})


def test_files_come_and_go(folder: Path, mirror: Mirror, tmp_path: Path) -> None:
    (folder / "c.yaml").write_text(text(service("c"), service("d")))
    mirror.wait(lambda: mirror.names() == set("abcd"))
    (folder / "a.yaml").unlink()
    (folder / "b.yaml").rename(tmp_path / "b.yaml")
    (folder / "c.yaml").rename(folder / "c.txt")
    mirror.wait(lambda: not mirror.names())
    (tmp_path / "b.yaml").rename(folder / "again.yaml")
    (folder / "link.yaml").symlink_to(folder / "c.txt")
    mirror.wait(lambda: mirror.names() == set("bcd"))


def test_a_document_that_is_edited_leaves_the_others_of_its_file_alone(folder: Path, mirror: Mirror) -> None:
    many = [service(f"s{number}") for number in range(50)]
    (folder / "many.yaml").write_text(text(*many))
    mirror.wait(lambda: len(mirror.names()) == 52)
    before = len(mirror.events)
    many[17] = service("s17", "10.96.9.9")
    del many[30]
    (folder / "many.yaml").write_text(text(*many))
    mirror.wait(lambda: mirror.address("s17") == "10.96.9.9" and len(mirror.names()) == 51)
    assert len(mirror.events) == before + 2


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.yaml", "a: 1\n---\nspec: {ports: [", "line 3"),
        ("a.yaml", "a: 1\n---\n\nb: 1\n  c: 2\n", "line 5"),
        ("a.yaml", "kind: Service\nmetadata: {when: 2026-99-99}\n", "line 1"),
        ("a.yaml", "&x [*x]", "line 1"),
        ("a.json", '{"kind": "Service", "spec": ', "line 1"),
        ("a.yaml", "kind: \xff", "not UTF-8"),
    ],
)
def test_a_file_that_does_not_parse_leaves_its_objects_as_they_were(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str, content: str, line: str
) -> None:
    path = folder / name
    path.write_bytes(msgspec.json.encode(service("a")))
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
        for _ in range(3):
            replace_as_editors_do(path, content.encode("latin-1"))
        (folder / "b.yaml").write_text(text(service("b")))
        mirror.wait(lambda: mirror.names() == {"a", "b"})
        path.write_text(text(service("c")))
        mirror.wait(lambda: mirror.names() == {"b", "c"})
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1, "said once"
    assert name in warnings[0]
    assert line in warnings[0]
    assert "stay as they were" in warnings[0]


def test_a_file_that_is_being_written_counts_when_it_is_closed(folder: Path, mirror: Mirror) -> None:
    with (folder / "slow.yaml").open("w") as file:
        file.write(text(service("half")))
        file.flush()
        (folder / "all.txt").write_text("an event for which all files are looked at")
        (folder / "c.yaml").write_text(text(service("c")))
        mirror.wait(lambda: "c" in mirror.names())
        assert "half" not in mirror.names()
    mirror.wait(lambda: "half" in mirror.names())


def test_a_config_map_volume_swaps_its_files_at_once(folder: Path) -> None:
    """The kubelet replaces a link to a folder; the links to the files in it stay as they are."""

    def write(version: str, *objects: object) -> None:
        (folder / version).mkdir()
        (folder / version / "all.yaml").write_text(text(*objects))
        (folder / "..data_tmp").symlink_to(version)
        (folder / "..data_tmp").rename(folder / "..data")

    write("..1", service("a"), service("b"))
    (folder / "all.yaml").symlink_to("..data/all.yaml")
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
        write("..2", service("a"), service("c"))
        mirror.wait(lambda: mirror.names() == {"a", "c"})


def test_a_file_that_is_written_while_it_is_read_is_read_again(
    folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Inotify.read
    half, whole = text(service("half")), text(service("whole"))

    def read_later(watch: Inotify, timeout: float) -> list[tuple[int, str]]:
        """What was read is half, and the rest is written before we ask whether it was."""
        if timeout == 0.0 and (folder / "slow.yaml").exists() and "whole" not in (folder / "slow.yaml").read_text():
            (folder / "slow.yaml").write_text(whole)
        return read(watch, timeout)

    monkeypatch.setattr(Inotify, "read", read_later)
    before = len(mirror.events)
    (folder / "slow.yaml").write_text(half)
    mirror.wait(lambda: mirror.names() == {"a", "b", "whole"})
    assert len(mirror.events) == before + 1


def test_events_that_the_kernel_loses_are_made_up_for(
    folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Inotify.read
    lost: list[int] = []

    def read_with_loss(watch: Inotify, timeout: float) -> list[tuple[int, str]]:
        events = read(watch, timeout)
        kept = [event for event in events if not event[0] & inotify.CLOSE_WRITE]
        lost.append(len(events) - len(kept))
        return [*kept, (inotify.OVERFLOW, "")] if lost[-1] else kept

    monkeypatch.setattr(Inotify, "read", read_with_loss)
    wait_until(lambda: lost)
    (folder / "a.yaml").write_text(text(service("a", "10.96.0.9")))
    mirror.wait(lambda: mirror.address("a") == "10.96.0.9")
    assert sum(lost) == 1


def test_a_folder_may_be_replaced(folder: Path, mirror: Mirror, tmp_path: Path) -> None:
    before = len(mirror.events)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.yaml").write_text(text(service("a")))
    (tmp_path / "new" / "c.yaml").write_text(text(service("c")))
    with (folder / "c.yaml").open("w") as file:
        file.write("half")
        file.flush()
        folder.rename(tmp_path / "elsewhere")
        (tmp_path / "new").rename(folder)
        mirror.wait(lambda: mirror.names() == {"a", "c"})
    assert len(mirror.events) == before + 2
    (folder / "d.yaml").write_text(text(service("d")))
    mirror.wait(lambda: mirror.names() == {"a", "c", "d"})


def test_a_folder_that_is_gone_is_waited_for(folder: Path, mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    for name in "cd":
        caplog.clear()
        shutil.rmtree(folder)
        wait_until(lambda: "cannot watch" in caplog.text)
        folder.mkdir()
        (folder / "new.yaml").write_text(text(service(name)))
        mirror.wait(partial(mirror.has_only, name))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="is not a folder: create it"):
        ManifestSource(tmp_path / "none", NODE)


def test_it_stops_at_once(folder: Path) -> None:
    stop, mirror = threading.Event(), Mirror()
    thread = threading.Thread(target=ManifestSource(folder, NODE).run, args=(mirror.take, stop))
    thread.start()
    mirror.wait_synced()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_bad_object_that_is_mended_or_goes(folder: Path, mirror: Mirror) -> None:
    (folder / "c.yaml").write_text(text(service("c", ports="none")))
    mirror.wait(lambda: key("c") in mirror.rejected)
    (folder / "c.yaml").write_text(text(service("c")))
    mirror.wait(lambda: "c" in mirror.names() and not mirror.rejected)
    (folder / "c.yaml").write_text(text(service("c", ports="none")))
    mirror.wait(lambda: key("c") in mirror.rejected)
    (folder / "c.yaml").unlink()
    mirror.wait(lambda: not mirror.rejected and "c" not in mirror.names())
    assert sum(isinstance(event, Rejected) for event in mirror.events) == 2
    wait_until(lambda: mirror.names() == {"a", "b"})
