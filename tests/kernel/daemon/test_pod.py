"""The pod of the manifests with least privilege: its containers one after the other, with its files and its account."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.apiserver import ApiServer
from tests.apiserver.__main__ import load
from tests.deployment import DEPLOY, daemon_args, granted
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.containers import confined
from tests.kernel.daemon.process import KPX, eventually, run
from tests.unit.cluster.conftest import Authority, new_authority
from tests.unit.cluster.objects import endpoint_slice, service

TOKEN = "the service account's"
NODE = "node-a"

# What a kubelet mounts: the ConfigMap, the service account, and the host's /run and /run/kpx.
_MOUNTS = """
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/secrets/kubernetes.io /run/kpx
cp -r "$1" /run/secrets/kubernetes.io/serviceaccount
cp -r "$2" /var/lib/kube-proxy
shift 2
exec "$@"
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority, node: Node) -> Iterator[ApiServer]:
    """An API server that knows the service account alone, and lets it do what its roles grant."""
    made = ApiServer(tls=authority.server_context())
    for manifest in sorted(node.manifests.iterdir()):
        for document in yaml.safe_load_all(manifest.read_text()):
            load(made, document)
    made.faults.tokens = {TOKEN}
    made.faults.rules = granted()
    with made:
        yield made


class Pod:
    """Starts the containers."""

    def __init__(self, folder: Path, url: str, certificate: Path) -> None:
        self._folder = folder
        self._account, self._config = folder / "serviceaccount", folder / "config"
        self._account.mkdir()
        (self._account / "token").write_text(TOKEN)
        (self._account / "ca.crt").write_bytes(certificate.read_bytes())
        self._config.mkdir()
        given = (DEPLOY / "base" / "config.conf").read_text()
        # In a network namespace of its own this cannot be set.
        (self._config / "config.conf").write_text(given.replace("maxPerCore: 32768", "maxPerCore: 0"))
        given = (DEPLOY / "base" / "kubeconfig.conf").read_text()
        (self._config / "kubeconfig.conf").write_text(given.replace("https://kubernetes.example:6443", url))

    def container(self, *more: str) -> list[str]:
        """The command of the daemon's container, as it runs there."""
        args = [word.replace("$(NODE_NAME)", NODE) for word in daemon_args()]
        return ["env", "-u", "KPX_SOCKET", "NO_PROXY=*", *KPX, *args, *more]

    def mounted(self, command: list[str]) -> list[str]:
        shell = ["bash", "-euc", _MOUNTS, "-", str(self._account), str(self._config)]
        return ["unshare", "--mount", "--propagation", "private", *shell, *command]

    def confined(self, command: list[str]) -> list[str]:
        return self.mounted(confined(command, Path("/run/kpx")))


@pytest.fixture
def pod(server: ApiServer, authority: Authority, tmp_path: Path) -> Pod:
    return Pod(tmp_path, server.url, authority.certificate)


def test_it_serves_with_its_account_and_its_privileges(server: ApiServer, pod: Pod, daemons: Daemons) -> None:
    initialised = run(*pod.mounted(pod.container("--init-only")))
    assert initialised.status == 0, initialised.stderr
    assert "table" not in run("nft", "list", "ruleset").stdout

    daemon = daemons.start(*pod.confined(pod.container("-v=2"))).synced().healthy()

    server.put(service("late", "10.96.100.77"))
    server.put(endpoint_slice("late", "10.244.21.10"))
    eventually(lambda: run("nft", "list", "table", "ip", "kpx").stdout, lambda now: "10.96.100.77" in now)
    assert daemon.get("/proxyMode").body == "nftables"
    assert {one for one in daemon.metrics("rest_client_requests_total") if 'code="4' in one} == set()
    inside = Path(f"/proc/{daemon.process.pid}/root/run/kpx/kpx.sock")
    eventually(inside.is_socket, what="the tools' socket is not there")
    mode = inside.stat().st_mode & 0o777
    assert (mode, inside.stat().st_uid) == (0o600, os.getuid())


def test_another_account_is_told_what_it_lacks(server: ApiServer, pod: Pod, daemons: Daemons) -> None:
    server.faults.tokens = {"of somebody else"}

    daemon = daemons.start(*pod.confined(pod.container()))

    daemon.logs("answers 401 .*credentials that this cluster accepts are needed")
    assert TOKEN not in daemon.log
