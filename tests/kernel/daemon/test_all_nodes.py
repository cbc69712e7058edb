"""`--all-nodes`: a real command, run in the pods of an API server that does what `kubectl exec` needs of it."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver import ApiServer
from tests.apiserver.websocket import Execution
from tests.deployment import DEPLOY, objects
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.process import KPX, Ended, run
from tests.unit.cluster.conftest import write_kubeconfig
from tests.unit.cluster.objects import labelled, node


def pod(name: str, on: str, phase: str = "Running") -> dict[str, Any]:
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "kube-system"}}
    return labelled({**made, "spec": {"nodeName": on}, "status": {"phase": phase}}, {"k8s-app": "kpx"})


@pytest.fixture
def server() -> Iterator[ApiServer]:
    """A cluster of three nodes: one serves, on one the pod is pending, and one has none."""
    with ApiServer() as made:
        for name in ("node-a", "node-b", "node-c"):
            made.put(node(name))
        made.put(pod("kpx-1", "node-a"))
        made.put(pod("kpx-2", "node-b", "Pending"))
        made.faults.rules = [
            rule
            for one in objects(DEPLOY / "base" / "rbac.yaml")
            if one["metadata"]["name"] == "kpx:operator"
            for rule in one["rules"]
        ]
        yield made


class Cluster:
    """Runs kpx beside the server, as an operator does."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self._kubeconfig = write_kubeconfig(folder, server.url, user={"token": "secret"})

    def kpx(self, *words: str) -> Ended:
        return run(*KPX, *words, "--all-nodes", "--kubeconfig", self._kubeconfig, env={"NO_PROXY": "*"})


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Cluster:
    return Cluster(server, tmp_path)


def run_for_real(socket: Path) -> Any:
    """Runs a pod's command here, beside a daemon."""

    def execute(_: str, command: list[str]) -> Execution:
        assert command[0] == "kpx"
        words = ["env", f"KPX_SOCKET={socket}", *KPX, *command[1:]]
        done = subprocess.run(words, capture_output=True, check=False)
        return Execution(done.returncode, done.stdout, done.stderr)

    return execute


def test_every_node_answers_or_is_named(cluster: Cluster, node: Node, daemons: Daemons) -> None:
    daemon = daemons.start(*node.command).synced()
    cluster.server.execute = run_for_real(daemon.socket)

    ended = cluster.kpx("services", "shop/web", "-o", "json")

    assert ended.status == 1
    a, b, c = json.loads(ended.stdout)["nodes"]
    assert (a["node"], a["pod"], a["status"], a["error"]) == ("node-a", "kpx-1", 0, "")
    assert [row["name"] for row in a["answer"]["services"]] == ["web"]
    assert (b["node"], b["status"], b["answer"]) == ("node-b", None, None)
    assert b["error"] == "the pod kpx-2 does not run, it is Pending"
    assert c["error"] == "no pod of kpx is on this node"
    assert ended.stderr == "kpx services: 2 of 3 nodes: no answer: node-b, node-c\n"


def test_the_doctor_tells_of_every_node_and_mends_none(cluster: Cluster, node: Node, daemons: Daemons) -> None:
    daemon = daemons.start(*node.command).synced()
    cluster.server.execute = run_for_real(daemon.socket)

    ended = cluster.kpx("doctor", "clusterip", "-o", "json", "--id", "KPX-PX-001")

    assert ended.status == 1, "two nodes do not answer"
    answer = json.loads(ended.stdout)["nodes"][0]
    assert (answer["node"], answer["status"]) == ("node-a", 0)
    assert [(one["id"], one["status"]) for one in answer["answer"]["findings"]] == [("KPX-PX-001", "pass")]
    mending = cluster.kpx("doctor", "--fix", "--yes")
    assert mending.status == 2
    assert "--all-nodes only tells" in mending.stderr


def test_the_text_of_each_node_stands_under_its_name(cluster: Cluster) -> None:
    cluster.server.put(pod("kpx-2", "node-b"))
    cluster.server.put(pod("kpx-3", "node-c"))
    said = {
        "kpx-1": Execution(0, "alles gut \u2713".encode() * 20_000, b"a note"),
        "kpx-2": Execution(3, b"a finding", b"and why"),
        "kpx-3": Execution(1, b"", b"kpx services: nobody to ask"),
    }
    cluster.server.execute = lambda name, _: said[name]

    ended = cluster.kpx("services")

    assert ended.status == 3
    assert ended.stdout == "\n\n".join(
        [
            f"=== node-a\n{said['kpx-1'].stdout.decode()}",
            "=== node-b\na finding\nand why",
            "=== node-c\nkpx services: nobody to ask\n",
        ]
    )
    assert ended.stderr == ""


def test_the_command_is_the_one_that_was_given(cluster: Cluster) -> None:
    asked: list[list[str]] = []

    def execute(_: str, command: list[str]) -> Execution:
        asked.append(command)
        return Execution(0, b"{}", b"")

    cluster.server.execute = execute
    cluster.kpx("services", "a b;c$", "--timeout=5", "-n", "shop", "--timeout", "5", "-o", "wide")

    assert asked == [["kpx", "services", "a b;c$", "-n", "shop", "-o", "wide"]]


def test_a_node_that_is_silent_or_breaks_off_holds_nobody_up(cluster: Cluster) -> None:
    cluster.server.put(pod("kpx-2", "node-b"))
    cluster.server.put(pod("kpx-3", "node-c"))
    over = threading.Event()

    def execute(name: str, _: list[str]) -> Execution:
        if name == "kpx-1":
            over.wait()
        return Execution(None, b'{"half":', b"") if name == "kpx-2" else Execution(0, b"{}", b"")

    cluster.server.execute = execute
    ended = cluster.kpx("services", "-o", "json", "--timeout", "3")
    over.set()

    assert ended.status == 1
    assert [one["error"] for one in json.loads(ended.stdout)["nodes"]] == [
        "no answer within 3 s",
        "the connection to kpx-2 broke: Connection to remote host was lost.",
        "",
    ]


def test_rights_and_mistakes_are_told_in_a_sentence(cluster: Cluster) -> None:
    cluster.server.faults.rules = [{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]}]
    refused = json.loads(cluster.kpx("services", "-o", "json").stdout)["nodes"][0]["error"]
    assert refused.startswith("the API server answers 403 (")
    assert refused.endswith(": bind the ClusterRole kpx:operator to this account")

    cluster.server.faults.rules = []
    unknown = cluster.kpx("services")
    assert (unknown.status, unknown.stdout) == (1, "")
    assert 'cannot list resource "nodes": bind the ClusterRole kpx:operator to this account' in unknown.stderr

    cluster.server.faults.rules = None
    elsewhere = cluster.kpx("services", "--kpx-pods", "infra/k8s-app=kpx")
    assert (elsewhere.status, elsewhere.stdout) == (1, "")
    assert elsewhere.stderr == (
        "kpx services: no pod of kpx is in namespace infra with the labels k8s-app=kpx: --kpx-pods names others\n"
    )
    wrong = cluster.kpx("services", "--kpx-pods", "infra")
    assert (wrong.status, wrong.stdout) == (2, "")

    cluster.server.stop()
    gone = cluster.kpx("services")
    assert (gone.status, gone.stdout) == (1, "")
    assert "check that the API server runs there" in gone.stderr
