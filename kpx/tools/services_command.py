"""`kpx services`: results go to standard output, what is to be said of them to standard error."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, replace

import msgspec

from kpx.net import canonical_ip
from kpx.proxier.frontends import ServiceName
from kpx.tools import held, services
from kpx.tools.cluster import Cluster, Options, find
from kpx.tools.errors import OK, ToolError, UsageError, reported
from kpx.tools.kernel import Held
from kpx.tools.names import Asked, missing, parse, unserved
from kpx.tools.services import Filter, Layout, Table


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown."""

    name: str = ""
    namespace: str = ""
    ip: str = ""
    port: int = 0
    output: str = "text"
    endpoints: bool = False
    seconds: float | None = None


def run(wish: Wish, options: Options) -> int:
    """`kpx services`."""
    return reported("services", lambda: _run(wish, options))


def _run(wish: Wish, options: Options) -> int:
    ip = canonical_ip(wish.ip) if wish.ip else ""
    if ip is None:
        raise UsageError(f"--ip {wish.ip} is no IP address")
    cluster, found = find(options)
    read_at = time.monotonic()
    chosen = Filter(wish.namespace, ip=ip, port=wish.port)
    if wish.name:
        chosen = named(wish.name, cluster, chosen)
    rows = services.rows(cluster.ports, services.count(found, cluster.ports))
    counted = found is not None and found.counts
    if wish.seconds and counted:
        time.sleep(wish.seconds)
        again = services.count(held.read(cluster.mode), cluster.ports)
        rows = services.with_rates(rows, services.rows(cluster.ports, again), time.monotonic() - read_at)
    notes = (*cluster.notes, *_counter_notes(found))
    shown = tuple(row for row in rows if chosen.accepts(row))
    if wish.output == "json":
        table = Table(cluster.source, cluster.node, cluster.mode, counted, wish.seconds, notes, shown)
        print(msgspec.json.format(msgspec.json.encode(table)).decode())
        return OK
    print("\n".join(f"kpx services: {note}" for note in notes), end="\n" * bool(notes), file=sys.stderr)
    layout = Layout(wish.output == "wide", wish.endpoints, counted, counted and bool(wish.seconds))
    print(services.text(shown, layout) if shown else "no Service is so")
    return OK


def named(text: str, cluster: Cluster, chosen: Filter) -> Filter:
    """The filter for a name: that of a Service as kubectl writes it, else a regular expression that some names match.

    Raises `UsageError`, or `ToolError` with what is near.
    """
    try:
        asked = parse(text, chosen.namespace)
    except UsageError:
        asked = None
    if asked:
        exact = [one for one in cluster.services if one.name == asked.name and asked.namespace in ("", one.namespace)]
        if exact:
            found = [port for one in sorted(exact) for port in cluster.find(_full(one, asked))[1]]
            return replace(chosen, ports=frozenset(found))
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{text!r} is neither the name of a Service nor a regular expression: {error}") from error
    if any(pattern.search(str(one.port)) for _, one in cluster.ports):
        return replace(chosen, pattern=pattern)
    if asked is None:
        raise ToolError(f"no Service has a name that matches {text!r}; `kpx services` lists all")
    other = cluster.look(ServiceName(asked.namespace or "default", asked.name))
    raise ToolError(unserved(other) if other else missing(asked, cluster.services))


def _full(service: ServiceName, asked: Asked) -> str:
    return f"{service}:{asked.port}" if asked.port else str(service)


def _counter_notes(found: Held | None) -> tuple[str, ...]:
    if found is None or found.counts:
        return ()
    return (f"{found.program} counts no connections for each endpoint: `kpx conntrack` shows those that there are now",)
