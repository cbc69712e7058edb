"""`kpx bundle`: what a node says of itself is said of its bundle elsewhere, and it holds no secret."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kpx.lab import namespaces
from kpx.lab.topology import NODE
from tests.apiserver.__main__ import load
from tests.apiserver.server import ApiServer
from tests.kernel.bundle.comparison import elsewhere, the_same
from tests.kernel.doctor.clinic import Clinic, clinic

_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJrdWJlLXByb3h5In0.c2lnbmF0dXJlLW9mLWEtdG9rZW4"
_PASSWORD, _ANNOTATION = "correct-horse-battery", "planted-in-an-annotation"
_CERTIFICATE = "MIIBplantedCertificate"

_OBJECTS = f"""
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations: {{kubectl.kubernetes.io/last-applied-configuration: "{_ANNOTATION}"}}
  managedFields: [{{manager: {_ANNOTATION}}}]
spec: {{clusterIP: 10.96.100.1, clusterIPs: [10.96.100.1], ipFamilies: [IPv4], ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-a, annotations: {{note: "{_ANNOTATION}"}}}}
"""
_RULES = f"""table inet planted {{
  chain c {{
    counter comment "token={_PASSWORD}"
    counter comment "{_TOKEN}"
  }}
}}"""


@pytest.fixture(scope="module")
def nftables() -> Iterator[Clinic]:
    with clinic("nftables") as made:
        yield made


def test_what_a_bundle_says_in_mode_nftables(nftables: Clinic, tmp_path: Path) -> None:
    with nftables.planted("firewall") as fault:
        the_same(nftables, tmp_path / "b.tar.gz", fault)


@pytest.mark.parametrize("legacy", [False, True], ids=["nft", "legacy"])
def test_what_a_bundle_says_in_mode_iptables(legacy: bool, tmp_path: Path) -> None:
    with clinic("iptables", legacy=legacy) as iptables, iptables.planted("foreign-dnat") as fault:
        the_same(iptables, tmp_path / "b.tar.gz", fault)


def test_no_secret_is_in_a_bundle(nftables: Clinic, tmp_path: Path) -> None:
    kubeconfig, file = tmp_path / "kubeconfig", tmp_path / "b.tar.gz"
    with namespaces.entered(nftables.place.namespace(NODE)), ApiServer() as server:
        for document in yaml.safe_load_all(_OBJECTS):
            load(server, document)
        kubeconfig.write_text(_kubeconfig(server.url))
        subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
        try:
            status, _ = nftables.run("bundle", "-o", str(file), "--kubeconfig", str(kubeconfig))
            asked = {one.headers.get("Authorization") for one in server.requests}
        finally:
            subprocess.run(["nft", "delete", "table", "inet", "planted"], check=True)

    assert status == 0
    assert asked == {f"Bearer {_TOKEN}"}  # it was there to be told
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held = members(file)
    for name, data in held.items():
        for secret in (_TOKEN, _PASSWORD, _ANNOTATION, _CERTIFICATE):
            assert secret.encode() not in data, (name, secret)
    objects = json.loads(held["objects.json"])
    assert [(one["kind"], one["metadata"]["name"]) for one in objects] == [("Service", "web"), ("Node", "node-a")]
    assert b"planted" in held["nftables/ruleset.netlink"]  # but for what was blotted out, the rules are there
    assert b'comment "token=*' in held["nftables/ruleset.txt"]
    # It can still be read, and no Secret is asked for.
    assert elsewhere(file, [("services",)])[0][0] == 0
    assert not any("secret" in one.path.lower() for one in server.requests)


def _kubeconfig(url: str) -> str:
    named = {
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": _CERTIFICATE + "AAA"}}],
        "users": [{"name": "u", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named})


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {one.name.partition("/")[2]: content.read() for one in archive if (content := archive.extractfile(one))}


def test_what_cannot_be_read_is_told(nftables: Clinic, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"

    status, _ = nftables.run("bundle", "-o", str(file), "--kubeconfig", str(tmp_path / "nobody"))

    manifest = json.loads(members(file)["manifest.json"])
    assert status == 0
    assert (manifest["node"], manifest["apiVersion"]) == (os.uname().nodename, "kpx/v1")
    assert [one["name"] for one in manifest["parts"] if one["error"]] == ["cluster.json"]
    status, _, told = elsewhere(file, [("services",)])[0]
    assert (status, told.count("\n")) == (1, 1)
    assert "the bundle holds no cluster.json" in told


def test_bad_files_are_told_in_a_sentence(tmp_path: Path) -> None:
    foreign, text, whole = (tmp_path / name for name in ("foreign.tar.gz", "text", "cut.tar.gz"))
    text.write_text("what is this?")
    with tarfile.open(foreign, "w:gz") as archive:
        head = tarfile.TarInfo("a/b")
        head.size = 100_000
        archive.addfile(head, io.BytesIO(bytes(range(250)) * 400))
    whole.write_bytes(foreign.read_bytes()[:200])
    for file, status in ((foreign, 1), (text, 1), (whole, 1), (tmp_path / "none", 2)):
        for ended, said, told in elsewhere(file, [("doctor",), ("trace", "shop/web"), ("services",)]):
            assert (ended, said, told.count("\n"), "Traceback" in told) == (status, "", 1, False), told
            assert file.name in told


def test_a_bundle_is_asked_alone(tmp_path: Path) -> None:
    words = (("doctor", "--fix"), ("trace", "shop/web", "--live"), ("services", "-w", "1"), ("doctor", "--node=a"))
    for status, said, told in elsewhere(tmp_path / "none", words):
        assert (status, said) == (2, "")
        assert "with --bundle nobody else is asked" in told
