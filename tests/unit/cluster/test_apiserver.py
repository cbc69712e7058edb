"""The API server of the tests: what a client may rely on, it must do as the real one does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests.apiserver import ApiServer
from tests.unit.cluster.objects import endpoint_slice, labelled, service

SERVICES = "/api/v1/services"


def get(url: str) -> Any:
    return urllib3.request("GET", url).json()


def names(answer: Any) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "abc"),
        ("labelSelector=tier", "bc"),
        ("labelSelector=!tier", "a"),
        ("labelSelector=tier=front", "b"),
        ("labelSelector=tier,tier!=front", "c"),
        ("fieldSelector=spec.clusterIP!=None", "ac"),
        ("fieldSelector=metadata.name=c", "c"),
        ("fieldSelector=spec.clusterIP!=None&labelSelector=tier", "c"),
    ],
)
def test_selectors(server: ApiServer, query: str, found: str) -> None:
    server.put(service("a"))
    server.put(labelled(service("b", "None"), {"tier": "front"}))
    server.put(labelled(service("c"), {"tier": "back"}))
    assert names(get(f"{server.url}{SERVICES}?{query}")) == list(found)


def test_pages_are_of_one_version_and_expire(server: ApiServer) -> None:
    for name in "abc":
        server.put(service(name))
    first = get(f"{server.url}{SERVICES}?limit=2")
    server.delete("services", "c")
    second = get(f"{server.url}{SERVICES}?limit=2&continue={first['metadata']['continue']}")
    assert names(first) + names(second) == ["a", "b", "c"]
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    server.store.compact()
    expired = get(f"{server.url}{SERVICES}?limit=2&continue={first['metadata']['continue']}")
    assert (expired["kind"], expired["code"], expired["reason"]) == ("Status", 410, "Expired")


def test_a_list_has_kinds_as_the_real_one(server: ApiServer) -> None:
    server.put(endpoint_slice("a", "10.244.0.1"))
    answer = get(f"{server.url}/apis/discovery.k8s.io/v1/endpointslices")
    assert (answer["kind"], answer["apiVersion"]) == ("EndpointSliceList", "discovery.k8s.io/v1")
    assert "kind" not in answer["items"][0]
    assert answer["items"][0]["metadata"]["uid"]


def test_a_watch_tells_what_it_is_for_its_selection(server: ApiServer) -> None:
    watcher = server.store.watch("services", lambda stored: "hidden" not in stored.labels, 1)
    server.put(service("a"))
    server.put(labelled(service("a"), {"hidden": ""}))
    server.put(service("a"))
    server.put(service("a", "10.96.0.2"))
    server.delete("services", "a")
    told = [json.loads(line) for line in watcher.take(0) if isinstance(line, bytes)]
    assert [event["type"] for event in told] == ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in told]
    assert versions == sorted(versions)
    assert len(set(versions)) == 5


def test_it_is_a_program_too(tmp_path: Path) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [endpoint_slice("a", "10.244.0.1")]}
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all([service("a"), listed, {"kind": "Other"}]))
    command = [sys.executable, "-m", "tests.apiserver", "--manifests", str(tmp_path)]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout
            url = program.stdout.readline().strip()
            assert names(get(f"{url}{SERVICES}")) == ["a"]
            item = f"{url}/api/v1/namespaces/default/services/b"
            assert urllib3.request("PUT", item, body=json.dumps(service("b"))).status == 201
            assert urllib3.request("POST", f"{url}{SERVICES}", body=json.dumps(service("b"))).status == 409
            assert get(item)["spec"]["clusterIP"] == "10.96.0.1"
            assert urllib3.request("DELETE", item).status == 200
            assert get(item)["code"] == 404
            assert names(get(f"{url}/apis/discovery.k8s.io/v1/endpointslices")) == ["a-1"]
        finally:
            program.send_signal(signal.SIGTERM)
    assert program.returncode == 0
