"""`kpx conntrack`: how full the table is, whose flows fill it, and which of them lead nowhere."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from kpx.kernel import conntrack, links
from kpx.kernel.conntrack import Flow
from kpx.kernel.netlink import NETLINK_NETFILTER, DumpInterrupted, Socket
from kpx.net import Family
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.ipvs.names import DEVICE
from kpx.tools.cluster import Cluster, Options, find
from kpx.tools.errors import OK, ToolError, UsageError, reported
from kpx.tools.flows import Owners, Report, ShownFlow, Stale, Tally, Usage, shares_text, shown, usage, usage_text


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown, or removed."""

    service: str = ""
    namespace: str = ""
    stale: bool = False
    delete: bool = False
    yes: bool = False
    top: int = 10
    seconds: float = 1.0
    as_json: bool = False

    @property
    def lists_flows(self) -> bool:
        return bool(self.service) or self.stale


@dataclass(frozen=True, slots=True)
class Words:
    """What the cluster makes of flows; the node's addresses are as they were."""

    cluster: Cluster
    owners: Owners
    stale: Stale
    service: frozenset[ServicePortName] | None

    def wants(self, flow: Flow, *, stale: bool) -> bool:
        return (self.service is None or self.owners.of(flow) in self.service) and (not stale or self.stale(flow))


def run(wish: Wish, options: Options) -> int:
    """`kpx conntrack`."""
    return reported("conntrack", lambda: _readable(lambda: _run(wish, options)))


def _readable(work: Callable[[], int]) -> int:
    try:
        return work()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        if error.errno in (errno.EPERM, errno.EACCES):
            raise ToolError("reading the conntrack table needs root (CAP_NET_ADMIN): run it with sudo") from error
        if error.errno == errno.ENOENT:
            raise ToolError(f"no connections are tracked here, or nf_conntrack is not loaded: {error}") from error
        raise ToolError(f"the conntrack table cannot be read: {error}") from error


def _run(wish: Wish, options: Options) -> int:
    if wish.delete and not wish.stale:
        raise UsageError("--delete removes stale flows only: give --stale too")
    if wish.yes and not wish.delete:
        raise UsageError("--yes answers the question of --delete: give that too")
    if wish.delete and wish.as_json and not wish.yes:
        raise UsageError("with -o json nothing is asked: give --yes to remove stale flows")
    words = _words(wish, options)
    _say(words.cluster.notes)
    if wish.delete:
        return _delete(wish, options, words)
    return _list(wish, words) if wish.lists_flows else _summary(wish, words)


def _words(wish: Wish, options: Options) -> Words:
    try:
        cluster, _ = find(options)
    except ToolError as error:
        if wish.lists_flows:
            raise
        # The table can be summed up even where nobody tells what its addresses are.
        cluster = Cluster("none", "nobody", options.node, "", [], (f"{error}; so flows are not told by Service",))
    ports = frozenset(cluster.find(wish.service, wish.namespace)[1]) if wish.service else None
    addresses = {one.address for one in links.addresses() if one.interface != DEVICE}
    return Words(cluster, Owners(cluster.ports, addresses), Stale(cluster.ports, addresses), ports)


def _say(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"kpx conntrack: {note}", file=sys.stderr)


def flows(netlink: Socket) -> Iterator[Flow]:
    """All flows, one after the other: none is kept. Some may be missed or met twice while the table changes."""
    for family in Family:
        try:
            yield from conntrack.dump(netlink, family)
        except DumpInterrupted:
            continue


def measured(seconds: float) -> Usage:
    """How full the table is, and how it grows, from two readings so many seconds apart."""
    started, first, counted = time.monotonic(), conntrack.count(), conntrack.statistics()
    time.sleep(seconds)
    entries, after = (first, conntrack.count()), (counted, conntrack.statistics())
    return usage(entries, conntrack.limit(), after, time.monotonic() - started)


def _summary(wish: Wish, words: Words) -> int:
    filled, tally = measured(wish.seconds), Tally(words.owners)
    with Socket(NETLINK_NETFILTER) as netlink:
        for flow in flows(netlink):
            tally.add(flow)
    shares = {
        "states": tally.states(),
        "services": tally.services(wish.top),
        "clients": tally.clients(wish.top),
        "backends": tally.backends(wish.top),
    }
    if wish.as_json:
        _print_json(_report(words, filled, **shares))
        return OK
    print(usage_text(filled))
    for title, some in shares.items():
        print(f"\n{shares_text(title.upper(), some)}")
    return OK


def _list(wish: Wish, words: Words) -> int:
    """List flows: as they are read, or as one JSON document."""
    found: list[ShownFlow] = []
    number = 0
    with Socket(NETLINK_NETFILTER) as netlink:
        for flow in flows(netlink):
            if words.wants(flow, stale=wish.stale):
                number += 1
                told = shown(flow, words.owners.of(flow))
                found.append(told) if wish.as_json else print(told)
    if wish.as_json:
        _print_json(_report(words, measured(wish.seconds), flows=tuple(found)))
    else:
        print(f"{number} {'stale ' if wish.stale else ''}flow{'s' if number != 1 else ''}", file=sys.stderr)
    return OK


def _delete(wish: Wish, options: Options, words: Words) -> int:
    """Show the stale flows, ask, and remove those that are stale still."""
    with Socket(NETLINK_NETFILTER) as netlink:
        stale = [flow for flow in flows(netlink) if words.wants(flow, stale=True)]
        listed = tuple(shown(flow, words.owners.of(flow)) for flow in stale)
        if not wish.as_json:
            print("\n".join(map(str, listed)), end="\n" * bool(listed))
        if stale and not wish.yes:
            if not _agreed(len(stale)):
                raise ToolError("nothing was removed")
            words = _words(wish, options)  # that may have taken a while
        deleted = sum(conntrack.delete(netlink, flow) for flow in stale if words.wants(flow, stale=True))
    if wish.as_json:
        _print_json(_report(words, measured(wish.seconds), flows=listed, deleted=deleted))
    else:
        print(f"removed {deleted} of {len(stale)} stale flows", file=sys.stderr)
    return OK


def _agreed(number: int) -> bool:
    if not sys.stdin.isatty():
        raise ToolError(f"nobody is there to say yes to removing {number} flows, and nothing was removed: give --yes")
    these = "this flow" if number == 1 else f"these {number} flows"
    print(f"Remove {these}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(words: Words, filled: Usage, **found: object) -> Report:
    cluster = words.cluster
    report = Report(cluster.source, cluster.node, cluster.mode, cluster.notes, filled)
    return msgspec.structs.replace(report, **found)


def _print_json(report: Report) -> None:
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
