"""A command run on every node, in the pods that kpx has there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from kpx.cluster.events import ClusterError
from kpx.cluster.kubernetes.exec import Finished
from kpx.cluster.kubernetes.pods import Pod

# Connections at a time: each is a process on a node, and goes through the API server.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Target:
    """A node, and its pod; without one that runs, ``fault`` says so."""

    node: str
    pod: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a node: what its command wrote and its status, or why there is nothing (``fault``)."""

    node: str
    pod: str = ""
    finished: Finished | None = None
    fault: str = ""


def targets(nodes: Iterable[str], pods: Iterable[Pod]) -> list[Target]:
    """Every node with its pod, by name. A pod that runs is taken before one that does not."""
    by_node: dict[str, Pod] = {}
    for pod in sorted(pods, key=lambda one: one.running):
        by_node[pod.node] = pod
    return [_target(node, by_node.get(node)) for node in sorted({*nodes, *by_node} - {""})]


def _target(node: str, pod: Pod | None) -> Target:
    if pod is None:
        return Target(node, fault="no pod of kpx is on this node")
    return Target(node, pod.name, "" if pod.running else f"the pod {pod.name} does not run, it is {pod.phase}")


def ask(found: Sequence[Target], run: Callable[[str], Finished]) -> Iterator[Answer]:
    """The answers as they come; ``run`` runs the command in the pod of a name, and raises `ClusterError`."""
    yield from (Answer(one.node, one.pod, fault=one.fault) for one in found if one.fault)
    pool = ThreadPoolExecutor(_AT_ONCE, "exec")
    try:
        asked: dict[Future[Finished], Target] = {pool.submit(run, one.pod): one for one in found if not one.fault}
        yield from (_answer(asked[future], future) for future in as_completed(asked))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # nobody waits for the rest of what was interrupted


def _answer(target: Target, future: Future[Finished]) -> Answer:
    try:
        return Answer(target.node, target.pod, future.result())
    except ClusterError as error:
        return Answer(target.node, target.pod, fault=str(error))
