"""A node for one run: its network and configuration, the cluster that it is in, and the daemon under test."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks import network, objects
from benchmarks.processes import Program, running
from benchmarks.subjects import Subject
from kpx.lab import namespaces

# Limits and time-outs of conntrack are the host's own, and stay as they are.
_CONNTRACK = {
    "maxPerCore": 0,
    "min": 0,
    "tcpEstablishedTimeout": "0s",
    "tcpCloseWaitTimeout": "0s",
    "udpTimeout": "0s",
    "udpStreamTimeout": "0s",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and the folder of its run's files."""

    subject: Subject
    folder: Path

    @property
    def config(self) -> Path:
        """The daemon's configuration."""
        return self.folder / "config.yaml"


@contextmanager
def node(subject: Subject) -> Iterator[Node]:
    """Make a node as a kubelet leaves it to a proxy; nothing is left of it at the end."""
    with network.network(), tempfile.TemporaryDirectory(prefix="kpx-bench-") as folder:
        made = Node(subject, Path(folder))
        # Who else uses iptables on this machine must not hold the lock of this node.
        os.environ["XTABLES_LOCKFILE"] = str(made.folder / "xtables.lock")
        made.config.write_text(json.dumps(_configuration(subject.mode)), encoding="utf-8")
        with namespaces.entered(network.NODE):
            subject.prepare()
        yield made


def _configuration(mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "hostnameOverride": objects.NODE,
        "clusterCIDR": str(objects.CLUSTER_NETWORK),
        "detectLocalMode": "ClusterCIDR",
        "oomScoreAdj": 0,
        "conntrack": _CONNTRACK,
        mode: {"minSyncPeriod": "10ms", "syncPeriod": "30s"},
    }


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server with a synthetic cluster; `url` holds in the node's namespace."""

    url: str
    _connection: http.client.HTTPConnection

    def write_slice(self, number: int, addresses: list[str]) -> None:
        """Send the EndpointSlice of a Service, and do not wait for the answer."""
        written = objects.endpoint_slice(number, addresses)
        names = written["metadata"]
        path = f"/apis/{written['apiVersion']}/namespaces/{names['namespace']}/endpointslices/{names['name']}"
        self._connection.request("PUT", path, json.dumps(written), {"Content-Type": "application/json"})

    def written(self) -> None:
        """Take the answer to the last write."""
        answer = self._connection.getresponse()
        answer.read()
        if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise OSError(f"the API server refused an EndpointSlice: {answer.status} {answer.reason}")


@contextmanager
def pods(node: Node) -> Iterator[None]:
    """Run the pods: they are there for every cluster."""
    with running(network.PODS_SIDE, node.folder / "pods.log", "-m", "benchmarks.pods") as program:
        program.first_line()
        yield


@contextmanager
def cluster(node: Node, services: int) -> Iterator[Cluster]:
    """Serve a cluster of this many Services, and run its pods."""
    words = ("-m", "benchmarks.apiserver", str(services))
    with pods(node), running(network.NODE, node.folder / "apiserver.log", *words) as server:
        url = server.first_line()
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        with namespaces.entered(network.NODE):
            connection.connect()
        try:
            yield Cluster(url, connection)
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon, and when its process was started (monotonic)."""

    program: Program
    started: float


@contextmanager
def daemon(node: Node, served: Cluster) -> Iterator[Daemon]:
    """Run ``kpx daemon`` on the node."""
    words = ("-m", "kpx", "daemon", "--config", str(node.config), "--master", served.url)
    started = time.monotonic()
    with running(network.NODE, node.folder / "daemon.log", *words) as program:
        yield Daemon(program, started)
