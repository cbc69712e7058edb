"""Objects from files: what is read, what is left out, and what an edit changes."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from kpx.cluster import manifests
from kpx.cluster.events import Applied, ClusterError, Rejected, Removed
from kpx.cluster.manifests import ManifestSource
from kpx.cluster.objects import EndpointSlice, Kind, Node, Service
from tests.unit.cluster.conftest import NODE, following
from tests.unit.cluster.objects import (
    Mirror,
    endpoint_slice,
    key,
    labelled,
    node,
    service,
    service_cidr,
    wait_until,
)


def text(*objects: object) -> str:
    return yaml.safe_dump_all(objects)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_POLL_SECONDS", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


@pytest.fixture
def mirror(folder: Path) -> Iterator[Mirror]:
    """What a proxy knows of a folder with the Services a and b, each in a file."""
    (folder / "a.yaml").write_text(text(service("a")))
    (folder / "b.yaml").write_text(text(service("b")))
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
        yield mirror


def read(folder: Path) -> Mirror:
    """What is in a folder."""
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
    return mirror


def address(mirror: Mirror, name: str) -> str:
    found = mirror.objects.get(key(name))
    return found.spec.cluster_ip if isinstance(found, Service) else ""


# What is read


def test_yaml_and_json_several_documents_and_lists(folder: Path) -> None:
    listed = [service("e"), endpoint_slice("e", "10.244.0.1")]
    typed = [{name: value for name, value in service("f").items() if name in ("metadata", "spec")}]
    (folder / "1.yaml").write_text("# a comment\n---\n" + text(service("a"), service("b")) + "---\n")
    (folder / "2.yml").write_text(text(service("c")))
    (folder / "3.json").write_bytes(msgspec.json.encode(service("d")))
    (folder / "4.json").write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": listed}))
    (folder / "5.yaml").write_text(text({"apiVersion": "v1", "kind": "ServiceList", "metadata": {}, "items": typed}))
    mirror = read(folder)
    assert mirror.names() == set("abcdef")
    assert mirror.names(Kind.ENDPOINT_SLICE) == {"e-1"}


def test_what_is_no_manifest_of_ours_is_left_alone(folder: Path) -> None:
    (folder / "README").write_text(text(service("a")))
    (folder / ".hidden.yaml").write_text(text(service("b")))
    (folder / "sub.yaml").mkdir()
    (folder / "sub.yaml" / "c.yaml").write_text(text(service("c")))
    (folder / "empty.yaml").write_text("")
    foreign = {**service("d"), "apiVersion": "serving.knative.dev/v1"}
    (folder / "other.yaml").write_text(text({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}, foreign))
    mirror = read(folder)
    assert not mirror.objects
    assert not mirror.rejected
    assert set(mirror.synced) == set(Kind)


def test_an_empty_folder_is_synced(folder: Path) -> None:
    assert sorted(kind.value for kind in read(folder).synced) == sorted(kind.value for kind in Kind)


def test_everything_is_told_before_it_is_synced(folder: Path) -> None:
    (folder / "a.yaml").write_text(text(service("a"), node(NODE)))
    first, second = read(folder).events[:2]
    assert isinstance(first, Applied)
    assert isinstance(second, Applied)


def test_selectors_are_an_api_servers(folder: Path) -> None:
    (folder / "all.yaml").write_text(
        text(
            service("seen"),
            service("headless", "None"),
            labelled(service("foreign"), {"service.kubernetes.io/service-proxy-name": ""}),
            endpoint_slice("seen", "10.244.0.1"),
            labelled(endpoint_slice("headless", "10.244.0.1"), {"service.kubernetes.io/headless": ""}),
            node(NODE),
            node("other"),
            service_cidr("kubernetes", "10.96.0.0/16"),
        )
    )
    mirror = read(folder)
    assert {key.name for key in mirror.objects} == {"seen", "seen-1", NODE, "kubernetes"}
    assert isinstance(mirror.objects[key(NODE, Kind.NODE, "")], Node)


def test_defaults_are_an_api_servers(folder: Path) -> None:
    written = service("a", "10.96.0.7")
    del written["metadata"]["namespace"]
    dual = {**service("dual"), "spec": {"clusterIPs": ["10.96.0.8", "fd00::8"], "ports": [{"port": 80}]}}
    slice_ = {**endpoint_slice("a", "10.244.0.1"), "ports": [{"port": 8080}]}
    (folder / "a.yaml").write_text(text(written, dual, slice_))
    mirror = read(folder)
    plain, both, slice_now = (
        mirror.objects[key(name, kind)]
        for name, kind in (("a", Kind.SERVICE), ("dual", Kind.SERVICE), ("a-1", Kind.ENDPOINT_SLICE))
    )
    assert isinstance(plain, Service)
    assert isinstance(both, Service)
    assert isinstance(slice_now, EndpointSlice)
    assert plain.metadata.namespace == "default"
    assert plain.spec.cluster_ips == ["10.96.0.7"]
    assert plain.spec.ip_families == ["IPv4"]
    assert both.spec.cluster_ip == "10.96.0.8"
    assert both.spec.ip_families == ["IPv4", "IPv6"]
    assert slice_now.ports
    assert (slice_now.ports[0].name, slice_now.ports[0].protocol) == ("", "TCP")


def test_what_yaml_makes_of_plain_words_is_read_as_the_api_writes_it(folder: Path) -> None:
    (folder / "a.yaml").write_text(
        "apiVersion: v1\nkind: Service\n"
        "metadata: {name: a, creationTimestamp: 2026-01-02T03:04:05Z, labels: {version: '1.10'}}\n"
        "spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n"
    )
    found = read(folder).objects[key("a")]
    assert found.metadata.creation_timestamp == "2026-01-02T03:04:05Z"
    assert found.metadata.labels == {"version": "1.10"}


def test_a_bad_object_is_told_with_its_file_and_leaves_the_others_alone(folder: Path) -> None:
    nameless = {"apiVersion": "v1", "kind": "Service", "metadata": {}}
    bad = service("bad", ports=[{"port": "eighty"}])
    (folder / "mixed.yaml").write_text(text(service("a"), bad, "no object", nameless, service("b")))
    mirror = read(folder)
    assert mirror.names() == {"a", "b"}
    reason = mirror.rejected[key("bad")]
    assert reason.startswith("mixed.yaml: ")
    assert "$.spec.ports[0].port" in reason
    assert any("no name" in reason for reason in mirror.rejected.values())


def test_an_object_that_is_found_twice_counts_where_it_is_last(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "1.yaml").write_text(text(service("a", "10.96.0.1")))
    (folder / "2.yaml").write_text(text(service("a", "10.96.0.2"), service("b")))
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
        assert address(mirror, "a") == "10.96.0.2"
        assert sum(isinstance(event, Applied) and event.key == key("a") for event in mirror.events) == 1
        (folder / "2.yaml").write_text(text(service("b")))
        mirror.wait(lambda: address(mirror, "a") == "10.96.0.1")
    assert caplog.text.count("Service default/a is in 1.yaml and again in 2.yaml") == 1


# What an edit changes


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
    mirror.wait(lambda: address(mirror, "a") == "10.96.0.9")
    assert len(mirror.events) == before + 1, "only what was edited is told"


def test_edits_in_a_row_all_show(folder: Path, mirror: Mirror) -> None:
    """Also where size and time of the file stay the same."""
    for number in range(10, 60):
        (folder / "a.yaml").write_text(text(service("a", f"10.96.0.{number}")))
    mirror.wait(lambda: address(mirror, "a") == "10.96.0.59")
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
    mirror.wait(lambda: address(mirror, "s17") == "10.96.9.9" and len(mirror.names()) == 51)
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


def test_a_folder_may_go_and_come_back(folder: Path, mirror: Mirror, tmp_path: Path) -> None:
    before = len(mirror.events)
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.yaml").write_text(text(service("a")))
    (tmp_path / "new" / "c.yaml").write_text(text(service("c")))
    (tmp_path / "new").rename(folder)
    mirror.wait(lambda: mirror.names() == {"a", "c"})
    assert len(mirror.events) == before + 2
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "d.yaml").write_text(text(service("d")))
    mirror.wait(lambda: mirror.names() == {"d"})


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
