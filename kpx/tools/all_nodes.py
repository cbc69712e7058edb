"""Any kpx command on every node of the cluster (`--all-nodes`): its answers, node by node."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import FORBIDDEN

import msgspec

from kpx.cluster.events import ClusterError
from kpx.cluster.everywhere import Answer, ask, targets
from kpx.cluster.kubernetes import Connection
from kpx.cluster.kubernetes.credentials import load
from kpx.cluster.kubernetes.errors import Refused
from kpx.cluster.kubernetes.exec import execute
from kpx.cluster.kubernetes.pods import node_names, pods
from kpx.proxier.published import API_VERSION
from kpx.tools.errors import COULD_NOT_RUN, OK, ToolError, UsageError, reported
from kpx.tools.objects import default_server

CONTAINER = "kpx"
# What says where to ask and not what, and whether a value follows.
_WHERE = {"--all-nodes": False, "--kpx-pods": True, "--kubeconfig": True, "--timeout": True}
# The worst of the statuses that nodes end with: something is wrong, could not run, a mistake, warnings.
_WORST = (3, COULD_NOT_RUN, 2, 4)


@dataclass(frozen=True, slots=True)
class Nodes:
    """Where to ask: ``pods`` are those of kpx, as NAMESPACE/LABELS; a node has so many seconds to answer."""

    kubeconfig: str
    pods: str
    seconds: float


class NodeAnswer(msgspec.Struct, frozen=True, rename="camel"):
    """What a node answered: the command's own JSON and status, None where there is none; ``error`` then says why."""

    node: str
    pod: str
    status: int | None
    answer: msgspec.Raw | None
    error: str


class Answers(msgspec.Struct, frozen=True, rename="camel"):
    """What `--all-nodes -o json` shows (docs/json.md)."""

    nodes: tuple[NodeAnswer, ...]
    api_version: str = API_VERSION


def run(command: str, words: Sequence[str], nodes: Nodes, *, as_json: bool) -> int:
    """Run ``kpx WORDS`` on all nodes, and print what each says. Returns the worst of their statuses."""
    return reported(command, lambda: _run(command, remote(words), nodes, as_json))


def remote(words: Sequence[str]) -> list[str]:
    """The words for a node, from those of the command that was given here."""
    kept: list[str] = []
    left = iter(words)
    for word in left:
        name, has_value, _ = word.partition("=")
        if name not in _WHERE:
            kept.append(word)
        elif _WHERE[name] and not has_value:
            next(left, None)
    return kept


def status(answers: Iterable[Answer]) -> int:
    """The worst status of the nodes; one that could not be asked is COULD_NOT_RUN, as is one that means nothing."""
    found = {one.finished.status if one.finished else COULD_NOT_RUN for one in answers}
    if not found <= {OK, *_WORST}:
        found.add(COULD_NOT_RUN)
    return next((one for one in _WORST if one in found), OK)


def document(answers: Iterable[Answer]) -> Answers:
    """The answers for a program."""
    return Answers(tuple(map(_document, answers)))


def _document(one: Answer) -> NodeAnswer:
    if one.finished is None:
        return NodeAnswer(one.node, one.pod, None, None, one.fault)
    answer: msgspec.Raw | None = None
    with suppress(msgspec.MsgspecError):
        answer = msgspec.json.decode(one.finished.stdout, type=msgspec.Raw)
    error = "" if answer else one.finished.stderr.decode(errors="replace").strip()
    return NodeAnswer(one.node, one.pod, one.finished.status, answer, error)


def text(answers: Iterable[Answer]) -> str:
    """The answers for people, each under its node's name."""
    return "\n\n".join(f"=== {one.node}\n{_said(one)}" for one in answers)


def _said(one: Answer) -> str:
    if one.finished is None:
        return f"no answer: {one.fault}"
    said = one.finished.stdout.decode(errors="replace").rstrip()
    if one.finished.status == OK:
        return said
    return "\n".join(filter(None, (said, one.finished.stderr.decode(errors="replace").rstrip())))


def _run(command: str, words: list[str], nodes: Nodes, as_json: bool) -> int:
    answers = sorted(_told(command, _asked(words, nodes)), key=lambda one: one.node)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document(answers))).decode())
    else:
        print(text(answers))
    silent = [one.node for one in answers if one.finished is None]
    if silent:
        print(f"kpx {command}: {len(silent)} of {len(answers)} nodes: no answer: {', '.join(silent)}", file=sys.stderr)
    return status(answers)


def _asked(words: list[str], nodes: Nodes) -> Iterator[tuple[int, Answer]]:
    """How many nodes there are, with each answer as it comes. Raises `ToolError` where none can be asked."""
    namespace, slash, labels = nodes.pods.partition("/")
    if not slash:
        raise UsageError(f"--kpx-pods {nodes.pods} is not NAMESPACE/LABELS, as kube-system/k8s-app=kpx is")
    server = default_server(nodes.seconds)
    kubeconfig = nodes.kubeconfig or (server.kubeconfig if server else "")
    try:
        access = load(kubeconfig, "")
        authorization = access.authorization()
        connection = Connection.from_config(kubeconfig, qps=-1)
        found = targets(node_names(connection, nodes.seconds), pods(connection, namespace, labels, nodes.seconds))
    except Refused as error:
        if error.status.code != FORBIDDEN:
            raise ToolError(f"the nodes cannot be asked: {error}") from error
        said = f"the nodes cannot be asked: {error.status.message}"
        raise ToolError(f"{said}: bind the ClusterRole kpx:operator to this account, or give --kubeconfig") from error
    except ClusterError as error:
        raise ToolError(f"the nodes cannot be asked: {error}") from error
    if not any(one.pod for one in found):
        raise ToolError(f"no pod of kpx is in namespace {namespace} with the labels {labels}: --kpx-pods names others")
    in_pod = partial(
        execute, access, authorization, namespace, container=CONTAINER, command=["kpx", *words], seconds=nodes.seconds
    )
    yield from ((len(found), one) for one in ask(found, in_pod))


def _told(command: str, answers: Iterable[tuple[int, Answer]]) -> Iterator[Answer]:
    """The answers, while a terminal is told how many there are."""
    shown = sys.stderr.isatty()
    for number, (total, one) in enumerate(answers, 1):
        if shown:
            print(f"\r\x1b[Kkpx {command}: {number} of {total} nodes", end="", file=sys.stderr, flush=True)
        yield one
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
