"""What the cluster wants of this node, from whoever can tell: the daemon, an API server, a folder, the kernel alone."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from kpx.cluster.objects import Node, Object, Service
from kpx.config.nodename import node_name
from kpx.net import Family
from kpx.proxier.frontends import ServiceName, ServicePortName
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from kpx.proxier.published import Status
from kpx.proxier.unix_socket import tool_socket
from kpx.tools import held, names, objects, stock
from kpx.tools.daemon import Daemon, NoDaemon
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Held, Port

# The longest, in seconds, that the daemon is waited for: it answers from memory.
_DAEMON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """Where to look: by default in the best place that answers. ``node`` is this node's name in the cluster.

    ``told`` answers in place of all others: it has kept what a node was asked before.
    """

    kubeconfig: str = ""
    manifests: str = ""
    node: str = ""
    seconds: float = 10.0
    kernel_only: bool = False
    told: Callable[[], tuple[Cluster, Held | None]] | None = None


@dataclass(frozen=True, slots=True)
class Only:
    """What is asked for, where not everything is: Services of a name, or who answers on an address and port.

    An empty field leaves it open. Whoever can tells no more than that; others tell everything.
    """

    name: str = ""
    namespace: str = ""
    address: str = ""
    port: int = 0


T = TypeVar("T")

EVERYTHING = Only()
Look = Callable[[ServiceName], Service | None]


class Untold(ToolError):
    """Nobody but the kernel can tell what is wanted; the text says why not."""


def _nothing(_: ServiceName) -> Service | None:
    return None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is wanted, and who says so.

    ``source`` is one of ``daemon``, ``api``, ``manifests``, ``kernel``, and ``origin`` names it for people; ``mode`` is
    empty where nobody tells. ``look`` finds a Service that no proxy serves. ``notes`` say what could not be had.
    ``proxy`` is how the node's proxy is configured, None where nobody tells; ``here`` finds the Node object.
    """

    source: str
    origin: str
    node: str
    mode: str
    ports: list[Port]
    notes: tuple[str, ...] = ()
    look: Look = field(default=_nothing)
    daemon: Daemon | None = None
    proxy: stock.Configuration | None = None
    here: Callable[[], Node | None] = field(default=lambda: None)

    def pods(self, family: Family) -> LocalTraffic | None:
        """How packets of pods are told from others, as the configuration says; None where nobody tells."""
        return self.proxy.pods(family, self.here) if self.proxy else None

    @property
    def services(self) -> set[ServiceName]:
        return {one.port.service for _, one in self.ports}

    def find(self, text: str, namespace: str = "") -> tuple[ServiceName, list[ServicePortName]]:
        """The Service that a text names as kubectl writes it, and its ports, or the one that is asked for.

        Raises `UsageError`, or `ToolError` with what is near.
        """
        asked = names.parse(text, namespace)
        service = names.choose(asked, self.services, self.look)
        known: dict[ServicePortName, set[int]] = {}
        for _, one in self.ports:
            if one.port.service == service:
                known.setdefault(one.port, set()).update(frontend.port for frontend in one.frontends)
        return service, names.ports(asked, service, known.items())


def find(options: Options) -> tuple[Cluster, Held | None]:
    """What is wanted of this node, and what the kernel holds (None where it holds nothing, or may not be read).

    Raises `ToolError` where neither can be told.
    """
    if options.told:
        return options.told()
    try:
        return _beside_kernel(wanted(options))
    except Untold as error:
        return kernel_alone(options, error)


def wanted(options: Options, only: Only = EVERYTHING) -> Cluster:
    """What is wanted of this node. The kernel is not read.

    Raises `ToolError`: `Untold` where the kernel is the only one left to ask.
    """
    if options.told:
        return options.told()[0]
    if options.kernel_only:
        raise Untold
    if options.manifests or options.kubeconfig:
        return _from_objects(options, _given(options), only)
    try:
        return _from_daemon(Daemon(tool_socket(), _DAEMON_SECONDS), options, only)
    except NoDaemon as error:
        absent = str(error)
    server = objects.default_server(options.seconds)
    if server is None:
        raise Untold(f"{absent}; no kubeconfig was found (--kubeconfig names one)")
    try:
        cluster = _from_objects(options, server, only)
    except ToolError as error:
        raise Untold(f"{absent}; {error}") from error
    return replace(cluster, notes=(absent, *cluster.notes))


def _beside_kernel(cluster: Cluster) -> tuple[Cluster, Held | None]:
    try:
        found = held.read(cluster.mode)
    except ToolError as error:
        return replace(cluster, notes=(*cluster.notes, str(error))), None
    note = () if found else ("the kernel holds no rules of a service proxy in this network namespace",)
    return replace(cluster, notes=(*cluster.notes, *note)), found


def _given(options: Options) -> objects.Server | Path:
    if options.manifests and options.kubeconfig:
        raise ToolError("--manifests and --kubeconfig name two sources: give one")
    return Path(options.manifests) if options.manifests else objects.Server(options.kubeconfig, seconds=options.seconds)


def _from_daemon(daemon: Daemon, options: Options, only: Only) -> Cluster:
    status = daemon.status()
    return Cluster(
        source="daemon",
        origin=f"the daemon, process {status.process}",
        node=status.node,
        mode=status.mode,
        ports=daemon.frontends(only.name, only.namespace, only.address, only.port),
        notes=tuple(
            f"the {one.family.value} rules are not as they should be: {one.error}"
            for one in status.families
            if one.error
        ),
        look=_looking(status, options),
        daemon=daemon,
        proxy=stock.parse(bytes(status.configuration)),
        here=_finding(status, options),
    )


def _looking(status: Status, options: Options) -> Look:
    """Finds what the daemon does not have, where the daemon has its objects from."""
    if status.origin.manifests:
        folder = Path(status.origin.manifests)
        return lambda name: _quietly(lambda: objects.find_service(objects.folder_objects(folder), name))
    server = _server_of(status, options)
    return lambda name: _quietly(lambda: server.service(name) if server else None)


def _finding(status: Status, options: Options) -> Callable[[], Node | None]:
    """Finds the node's object where the daemon has it from."""
    if status.origin.manifests:
        folder = Path(status.origin.manifests)
        return lambda: _quietly(lambda: objects.find_node(objects.folder_objects(folder), status.node))
    server = _server_of(status, options)
    return lambda: _quietly(lambda: server.node(status.node) if server else None)


def _server_of(status: Status, options: Options) -> objects.Server | None:
    """The API server that the daemon has its objects from, as it can be reached from here."""
    origin = status.origin
    if (origin.kubeconfig and Path(origin.kubeconfig).is_file()) or origin.master:
        return objects.Server(origin.kubeconfig, origin.master, options.seconds)
    return objects.default_server(options.seconds)


def api_server(options: Options) -> objects.Server | None:
    """The API server of this node's cluster, or None where there is none to ask."""
    if options.told:
        return None
    if options.kubeconfig:
        return objects.Server(options.kubeconfig, seconds=options.seconds)
    try:
        status = Daemon(tool_socket(), _DAEMON_SECONDS).status()
    except ToolError:
        return objects.default_server(options.seconds)
    return None if status.origin.manifests else _server_of(status, options)


def all_objects(options: Options) -> list[Object]:
    """The objects of the cluster themselves, from where what is wanted comes from. Raises `ToolError`."""
    if options.manifests or options.kubeconfig:
        source: objects.Server | Path | None = _given(options)
    else:
        try:
            status = Daemon(tool_socket(), _DAEMON_SECONDS).status()
        except NoDaemon:
            source = objects.default_server(options.seconds)
        else:
            source = Path(status.origin.manifests) if status.origin.manifests else _server_of(status, options)
    if source is None:
        raise ToolError("nobody tells the cluster's objects: no daemon answers, and no kubeconfig was found")
    return objects.folder_objects(source) if isinstance(source, Path) else source.objects()


def _quietly(look: Callable[[], T | None]) -> T | None:
    """A second opinion only: where it cannot be had, what is known has to do."""
    try:
        return look()
    except ToolError:
        return None


def _from_objects(options: Options, source: objects.Server | Path, only: Only) -> Cluster:
    told = stock.configuration()
    proxy = told or stock.Configuration(mode="")
    node = options.node or node_name(proxy.hostname_override, socket.gethostname())
    if isinstance(source, Path):
        kind, origin, found = "manifests", f"the manifests in {source}", objects.folder_objects(source)
    else:
        kind, origin, found = "api", _server_name(source), source.objects(only.name, only.namespace)
    view = Viewpoint(node=node, masquerade_all=proxy.masquerade_all, pods_known=proxy.pods_known)
    return Cluster(
        source=kind,
        origin=origin,
        node=node,
        mode=proxy.mode,
        ports=objects.wanted(found, view),
        notes=_node_notes(found, node),
        look=lambda name: objects.find_service(found, name),
        proxy=told,
        here=lambda: objects.find_node(found, node),
    )


def _server_name(server: objects.Server) -> str:
    return f"the API server of {server.kubeconfig}" if server.kubeconfig else "the API server of this pod"


def _node_notes(found: list[Object], node: str) -> tuple[str, ...]:
    """Endpoints are told to be on this node by its name: a wrong one is worth a word."""
    nodes = [one.metadata.name for one in found if isinstance(one, Node)]
    if not nodes or node in nodes:
        return ()
    return (f"the cluster has no Node {node}, so no endpoint counts as local: name this node with --node",)


def kernel_alone(options: Options, untold: Untold) -> tuple[Cluster, Held]:
    """What the kernel holds, in place of what is wanted. Raises `ToolError` where that is nothing."""
    notes = tuple(filter(None, (str(untold),)))
    proxy = stock.configuration()
    try:
        found = held.read()
    except ToolError as error:
        raise ToolError("; ".join((*notes, str(error)))) from error
    if found is None:
        raise ToolError("; ".join((*notes, "the kernel holds no rules of a service proxy: nothing can be told")))
    cluster = Cluster(
        source="kernel",
        origin=f"the kernel alone ({found.program})",
        node=options.node or node_name(proxy.hostname_override if proxy else "", socket.gethostname()),
        mode=proxy.mode if proxy else "",
        ports=found.ports(),
        notes=(*notes, "this is what the kernel holds; what the cluster wants is not known"),
    )
    return cluster, found
