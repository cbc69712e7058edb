"""An API server, objects for it, a consumer of events, and certificates."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kpx.cluster import manifests
from kpx.cluster.events import Source
from tests.apiserver import ApiServer
from tests.unit.cluster.objects import Mirror

NODE = "node-a"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for manifests, whose source stops quickly."""
    monkeypatch.setattr(manifests, "_POLL_SECONDS", 0.02)
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


@contextmanager
def following(source: Source) -> Iterator[Mirror]:
    """A mirror that is fed by a source for as long as the block lasts."""
    mirror, stop = Mirror(), threading.Event()
    thread = threading.Thread(target=source.run, args=(mirror.take, stop), name="source")
    thread.start()
    try:
        yield mirror
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder, made with openssl."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def issue(self, name: str, extension: str) -> tuple[Path, Path]:
        """A certificate and its key; `extension` is what openssl's x509 takes."""
        key, request, certificate = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "crt"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(extension)
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-CA", self.certificate, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, "-out", certificate, *signer, "-days", "2", "-extfile", extensions)
        return certificate, key

    def server_context(self) -> ssl.SSLContext:
        """TLS for a server that asks clients for a certificate, and takes one from this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", "subjectAltName=IP:127.0.0.1"))
        context.load_verify_locations(self.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


def new_authority(folder: Path) -> Authority:
    files = ("-keyout", folder / "ca.key", "-out", folder / "ca.crt")
    _openssl("req", "-x509", *_NEW_KEY, *files, "-days", "2", "-subj", "/CN=test-ca")
    return Authority(folder)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def write_kubeconfig(
    folder: Path, url: str, *, user: Mapping[str, object] | None = None, cluster: Mapping[str, object] | None = None
) -> str:
    """A kubeconfig for an API server; the path of it."""
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url, **(cluster or {})}}],
                "users": [{"name": "u", "user": dict(user or {})}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return str(path)
