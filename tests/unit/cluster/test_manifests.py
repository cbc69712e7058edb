"""Objects from files: what is read, and what is left out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kpx.cluster import documents
from kpx.cluster.events import Applied
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
    text,
)


def read(folder: Path) -> Mirror:
    """What is in a folder."""
    with following(ManifestSource(folder, NODE)) as mirror:
        mirror.wait_synced()
    return mirror


def test_yaml_and_json_several_documents_and_lists(folder: Path) -> None:
    listed = [service("e"), endpoint_slice("e", "10.244.0.1")]
    typed = [{name: value for name, value in service("f").items() if name in ("metadata", "spec")}]
    (folder / "1.yaml").write_text("\ufeff# a comment\n---\n" + text(service("a"), service("b")) + "---\n")
    (folder / "2.yml").write_text(text(service("c")))
    (folder / "3.json").write_bytes(msgspec.json.encode(service("d")))
    (folder / "4.json").write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": listed}))
    (folder / "5.yaml").write_text(text({"apiVersion": "v1", "kind": "ServiceList", "metadata": {}, "items": typed}))
    mirror = read(folder)
    assert mirror.names() == set("abcdef")
    assert mirror.names(Kind.ENDPOINT_SLICE) == {"e-1"}


def test_what_is_no_manifest_of_ours_is_left_alone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    assert not caplog.records


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
    del bad["metadata"]["namespace"]
    (folder / "deep.json").write_text('{"kind": ' + "[" * 5000 + "]" * 5000 + "}")
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
        assert mirror.address("a") == "10.96.0.2"
        assert sum(isinstance(event, Applied) and event.key == key("a") for event in mirror.events) == 1
        (folder / "3.yaml").write_text(text(service("c")))
        mirror.wait(lambda: "c" in mirror.names())
        (folder / "2.yaml").write_text(text(service("b")))
        mirror.wait(lambda: mirror.address("a") == "10.96.0.1")
    assert caplog.text.count("Service default/a is in 1.yaml and again in 2.yaml") == 1


def test_a_part_that_has_not_changed_is_not_parsed_again() -> None:
    first = documents.parse("a.yaml", text(service("a"), service("b")).encode(), NODE, {})
    second = documents.parse("a.yaml", text(service("a"), service("c")).encode(), NODE, first)
    kept = first.keys() & second.keys()
    assert len(kept) == 1
    assert all(second[part] is first[part] for part in kept)
