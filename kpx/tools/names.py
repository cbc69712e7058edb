"""Service names as people write them for kubectl, and what to say where there is no such Service."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from kpx.cluster.objects import Service
from kpx.proxier.frontends import ServiceName, ServicePortName
from kpx.tools.errors import ToolError, UsageError

_KINDS = ("svc", "service", "services")
_DEFAULT = "default"
_NEAREST = 5


class Asked(NamedTuple):
    """A Service as it was asked for; an empty namespace or port leaves it open."""

    namespace: str
    name: str
    port: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def parse(text: str, namespace: str = "") -> Asked:
    """``svc/NAME``, ``NAME`` or ``NAMESPACE/NAME``, each with ``:PORT`` (name or number) if need be.

    Raises `UsageError`.
    """
    rest, _, port = text.partition(":")
    first, slash, name = rest.partition("/")
    if not slash:
        first, name = "", rest
    elif first in _KINDS:
        if "/" in name:
            first, _, name = name.partition("/")
        else:
            first = ""
    if not name or "/" in name or (slash and not rest.partition("/")[0]):
        raise UsageError(
            f"{text!r} names no Service: write svc/NAME -n NAMESPACE, or NAMESPACE/NAME, or either with :PORT"
        )
    if first and namespace and first != namespace:
        raise UsageError(f"{text!r} is in namespace {first}, but -n says {namespace}")
    return Asked(first or namespace, name, port)


def choose(asked: Asked, known: Collection[ServiceName], look: Callable[[ServiceName], Service | None]) -> ServiceName:
    """The one Service that is asked for: without a namespace, that in ``default``, or else the only one of its name.

    `look` finds a Service that no proxy serves. Raises `ToolError`, which tells why there is none and what is near.
    """
    if asked.namespace:
        found = [name for name in (ServiceName(asked.namespace, asked.name),) if name in known]
    else:
        found = sorted(name for name in known if name.name == asked.name)
        found = [name for name in found if name.namespace == _DEFAULT] or found
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise ToolError(f"{asked.name} is in several namespaces: choose one with -n, or write one of {listed}")
    if found:
        return found[0]
    other = look(ServiceName(asked.namespace or _DEFAULT, asked.name))
    raise ToolError(unserved(other) if other else missing(asked, known))


def missing(asked: Asked, known: Iterable[ServiceName]) -> str:
    """That there is no such Service, and which are near."""
    where = f" in namespace {asked.namespace}" if asked.namespace else ""
    near = nearest(asked, known)
    hint = f"; is it one of {', '.join(map(str, near))}?" if near else "; `kpx services` lists those that there are"
    return f"there is no Service {asked.name}{where}{hint}"


def nearest(asked: Asked, known: Iterable[ServiceName]) -> list[ServiceName]:
    """The Services that may be meant: of that name elsewhere, or of a name like it, the own namespace first."""
    by_name: dict[str, list[ServiceName]] = {}
    for one in known:
        by_name.setdefault(one.name, []).append(one)
    close = difflib.get_close_matches(asked.name, by_name, n=_NEAREST, cutoff=0.6)
    names = dict.fromkeys([asked.name, *close, *sorted(name for name in by_name if asked.name in name)])
    found = [one for name in names for one in sorted(by_name.get(name, ()))]
    return sorted(found, key=lambda one: (one.name != asked.name, one.namespace != asked.namespace))[:_NEAREST]


def unserved(service: Service) -> str:
    """Why no proxy serves a Service, and what to use in its place."""
    namespace, name = service.metadata.namespace, service.metadata.name
    spec, shown = service.spec, f"{namespace}/{name}"
    if spec.type == "ExternalName":
        target = spec.external_name or "another name"
        return f"{shown} is of type ExternalName: DNS answers with {target}, and no rule leads there; look that name up"
    if spec.cluster_ip == "None":
        slices = f"kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}"
        return f"{shown} is headless (clusterIP: None): DNS answers with its pods' own addresses, see `{slices}`"
    if other := (service.metadata.labels or {}).get("service.kubernetes.io/service-proxy-name"):
        return f"{shown} is left to the service proxy {other} (its label service.kubernetes.io/service-proxy-name)"
    return f"{shown} has no cluster IP that a proxy could serve: see `kubectl describe service -n {namespace} {name}`"


def ports(
    asked: Asked, service: ServiceName, known: Iterable[tuple[ServicePortName, set[int]]]
) -> list[ServicePortName]:
    """The ports of a Service that are asked for, by name or number; `known` are all, with the numbers they answer on.

    Raises `ToolError`, which lists the ports that there are.
    """
    own = {port: numbers for port, numbers in known if port.service == service}
    if not asked.port:
        return sorted(own)
    chosen = [port for port, numbers in own.items() if asked.port == port.port or asked.port in map(str, numbers)]
    if chosen:
        return sorted(chosen)
    listed = ", ".join(
        f"{' or '.join(filter(None, (port.port, *map(str, sorted(numbers)))))} ({port.protocol})"
        for port, numbers in sorted(own.items())
    )
    raise ToolError(f"{service} has no port {asked.port}: it has {listed or 'none'}")
