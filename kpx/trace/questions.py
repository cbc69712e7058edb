"""What a trace is asked, in people's words, becomes targets, each with what the cluster wants there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kpx.net import Family, canonical_ip, family_of
from kpx.proxier.frontends import Frontend, Frontends, Kind
from kpx.proxier.node import LocalTraffic
from kpx.tools import cluster, names, pods
from kpx.tools.cluster import Cluster, Only, Options, Untold
from kpx.tools.errors import ToolError, UsageError
from kpx.tools.kernel import Port
from kpx.trace.target import PROTOCOLS, BadTarget, Target, is_address, parse_target

_POD = "pod/"
_DEFAULT = "default"
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says: ``via`` chooses among the addresses of a Service."""

    text: str
    namespace: str = ""
    port: str = ""
    sender: str = ""
    via: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the cluster wants of a target: a service port, and the address of it that is traced.

    ``pods`` is how the node's proxy tells pods from others, None where nobody tells.
    """

    port: Frontends
    frontend: Frontend
    pods: LocalTraffic | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One target, and what the cluster wants there: None where it is no Service's, or nobody tells."""

    target: Target
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """All that is asked; ``cluster`` is None where nobody was asked, or could tell."""

    questions: tuple[Question, ...]
    cluster: Cluster | None = None
    notes: tuple[str, ...] = ()


def find(asked: Asked, options: Options) -> Questions:
    """The targets that a text names. Raises `UsageError`, and `ToolError` with what is near."""
    if asked.text.startswith(_POD):
        return _pod(asked, options)
    if is_address(asked.text):
        return _address(asked, options)
    return _service(asked, options)


def _address(asked: Asked, options: Options) -> Questions:
    try:
        target = parse_target(asked.text, asked.port)
    except BadTarget as error:
        raise UsageError(str(error)) from error
    try:
        told = cluster.wanted(options, Only(address=target.address, port=target.port))
    except Untold as error:
        return Questions((Question(target),), None, tuple(filter(None, (str(error),))))
    question = owned(target, told.ports, asked.sender)
    said = question.wanted and asked.text.lower().endswith(f"/{target.protocol}")
    others = () if said else tuple(_otherwise(question, told.ports, asked.sender))
    return Questions((_with_pods(question, told),), told, others)


def _otherwise(question: Question, ports: Sequence[Port], sender: str) -> Iterator[str]:
    """The other protocols over which a Service answers there: one that is meant may be among them."""
    target = replace(question.target, name="")
    for protocol in PROTOCOLS:
        other = replace(target, protocol=protocol)
        found = owned(other, ports, sender)
        if found.wanted is None or other == target:
            continue
        meant = f"{found.target.name} answers there over {protocol.upper()}: to see that, trace {other}"
        yield meant if question.wanted else f"no Service has {target}, but {meant}"


def owned(target: Target, ports: Iterable[Port], sender: str = "") -> Question:
    """A target given by its address, with the Service that answers there."""
    family = family_of(target.address or canonical_ip(sender) or "0.0.0.0")
    protocol = target.protocol.upper()
    node_port: Question | None = None
    for of, one in ports:
        for frontend in one.frontends:
            if (of, frontend.port, frontend.protocol) != (family, target.port, protocol):
                continue
            found = Question(replace(target, name=str(one.port)), Wanted(one, frontend))
            if frontend.address == target.address or (not target.address and frontend.address is None):
                return found
            if frontend.address is None:
                node_port = found
    return node_port if node_port and target.address else Question(target)


def _with_pods(question: Question, told: Cluster) -> Question:
    """A question, with what the proxy's configuration says of pods."""
    target, wanted = question.target, question.wanted
    if wanted is None:
        return question
    family = target.family or family_of(target.address)
    return replace(question, wanted=replace(wanted, pods=told.pods(family)))


def _service(asked: Asked, options: Options) -> Questions:
    if asked.port and ":" in asked.text:
        raise UsageError(f"{asked.text} names a port already: leave out --to-port {asked.port}")
    text = f"{asked.text}:{asked.port}" if asked.port else asked.text
    told = _told(names.parse(text, asked.namespace), options)
    _, chosen = told.find(text, asked.namespace)
    ports = [(family, one) for family, one in told.ports if one.port in set(chosen)]
    found = [_question(family, one, frontend) for family, one in ports for frontend in one.frontends]
    if sender := canonical_ip(asked.sender):
        found = [one for one in found if one.target.family is family_of(sender)]
    if not found:
        raise ToolError(f"{text} has no address of the sender's family ({asked.sender})")
    return Questions(tuple(_with_pods(one, told) for one in _via(asked, found)), told)


def _told(asked: names.Asked, options: Options) -> Cluster:
    """Of the Service alone where there is one, else of all, to tell what is near."""
    try:
        told = cluster.wanted(options, Only(asked.name, asked.namespace))
        if any(one.name == asked.name for one in told.services):
            return told
        return cluster.wanted(options)
    except Untold as error:
        return cluster.kernel_alone(options, error)[0]


def _question(family: Family, port: Frontends, frontend: Frontend) -> Question:
    name = str(port.port)
    target = Target(frontend.address or "", frontend.port, frontend.protocol.lower(), name, family)
    return Question(target, Wanted(port, frontend))


def _via(asked: Asked, found: list[Question]) -> list[Question]:
    """Those of the kind that is asked for: by default the cluster IP, from outside what is meant for there."""
    chosen = [one for one in found if asked.via in (_ALL, _kind(one).value)]
    if asked.via:
        if not chosen:
            kinds = ", ".join(sorted({_kind(one).value for one in found}))
            raise ToolError(f"{asked.text} has no such address (--via {asked.via}): it has {kinds}")
        return chosen
    inside = asked.sender != "external"
    default = [one for one in found if (_kind(one) is Kind.CLUSTER_IP) is inside]
    return default or found


def _kind(question: Question) -> Kind:
    assert question.wanted
    return question.wanted.frontend.kind


def _pod(asked: Asked, options: Options) -> Questions:
    rest, _, port = asked.text.removeprefix(_POD).partition(":")
    namespace, _, name = rest.rpartition("/")
    namespace = namespace or asked.namespace or _DEFAULT
    server = cluster.api_server(options)
    if server is None:
        raise ToolError("only an API server knows pods by name (--kubeconfig): trace the pod's ADDRESS:PORT instead")
    pod = pods.read(server, namespace, name)
    if pod is None:
        raise ToolError(f"there is no pod {name} in namespace {namespace}: see `kubectl get pods -n {namespace}`")
    if not pod.addresses:
        raise ToolError(
            f"the pod {namespace}/{name} has no address ({pod.status.phase or 'no phase'}): it cannot answer"
        )
    number, protocol = _pod_port(f"{namespace}/{name}", pod, port or asked.port)
    label = f"pod {namespace}/{name}"
    sender = canonical_ip(asked.sender)
    addresses = [one for one in pod.addresses if not sender or family_of(one) is family_of(sender)]
    return Questions(tuple(Question(Target(one, number, protocol, label)) for one in addresses or pod.addresses))


def _pod_port(name: str, pod: pods.Pod, text: str) -> tuple[int, str]:
    """The port of a pod that is meant: by default its first."""
    found = next((one for one in pod.ports if text in ("", one.name, str(one.container_port))), None)
    if found:
        return found.container_port, found.protocol.lower()
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text), "tcp"
    listed = ", ".join(f"{one.name or one.container_port}" for one in pod.ports) or "none"
    raise ToolError(
        f"the pod {name} names no port {text}".rstrip() + f": its ports are {listed}; give --to-port NUMBER"
    )
