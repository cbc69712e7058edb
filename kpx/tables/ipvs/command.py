"""What `kpx ipvs` does: read and print, once or again and again. It changes nothing and loads no kernel module."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from kpx.kernel.ipvs import connections
from kpx.kernel.ipvs.connections import Connection, Sample, Total
from kpx.kernel.ipvs.table import Ipvs, IpvsUnavailable, loaded
from kpx.kernel.ipvs.types import Timeouts
from kpx.tables.ipvs import facts, selection, text
from kpx.tables.ipvs.selection import BadSelection, Selection
from kpx.tables.ipvs.snapshot import Snapshot, take
from kpx.tables.ipvs.text import View
from kpx.tables.screen import Screen

OK, COULD_NOT_READ, USAGE, INTERRUPTED = 0, 1, 2, 130

_UNAVAILABLE = (
    "this kernel has no IPVS at work: the module ip_vs is not loaded."
    " A node whose proxy mode is iptables or nftables has none; for the mode ipvs, `modprobe ip_vs` loads it"
)
_NOT_ALLOWED = (
    "the kernel shows IPVS only to processes with CAP_NET_ADMIN:"
    " run it as root on the node, or in a privileged pod with hostNetwork"
)
# The kernel needs tens of seconds to show so many connections, and a minute for twice as many.
_MANY = 100_000
# A refresh reads connections for this part of its interval.
_READING = 0.5
# Two of titles and one that says that there are more.
_LINES_BESIDE_CONNECTIONS = 3


# What is shown.
State = Snapshot | Timeouts | Sample


class CannotRead(Exception):
    """What was asked for could not be read; the message is a sentence."""


class BadUsage(Exception):
    """The arguments make no sense together; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of the command. ``views`` are those that options ask for; ``watch`` is in seconds."""

    service: str | None = None
    views: tuple[View, ...] = ()
    timeouts: bool = False
    connections: bool = False
    exact: bool = False
    limit: int | None = None
    watch: float | None = None
    as_json: bool = False

    @property
    def view(self) -> View:
        return self.views[0] if self.views else View.SERVERS

    @property
    def engines(self) -> bool:
        """Whether connections are printed with their persistence engines, for which ipvsadm has the option too."""
        return self.connections and self.views == (View.PERSISTENT,)


def run(options: Options) -> int:
    """`kpx ipvs`."""
    try:
        chosen = _checked(options)
        if options.watch is not None:
            _watch(options, chosen, options.watch)
        elif options.connections:
            _print_connections(options, chosen)
        else:
            _print_table(options, chosen)
    except (BadUsage, BadSelection) as error:
        return _failed(str(error), USAGE)
    except CannotRead as error:
        return _failed(str(error), COULD_NOT_READ)
    except IpvsUnavailable:
        return _failed(_UNAVAILABLE, COULD_NOT_READ)
    except BrokenPipeError:
        raise
    except OSError as error:
        refused = error.errno in (errno.EPERM, errno.EACCES)
        return _failed(_NOT_ALLOWED if refused else str(error), COULD_NOT_READ)
    except KeyboardInterrupt:
        return INTERRUPTED if options.watch is None else OK
    return OK


def _failed(sentence: str, status: int) -> int:
    _note(sentence)
    return status


def _note(sentence: str) -> None:
    print(f"kpx ipvs: {sentence}", file=sys.stderr, flush=True)


def _checked(options: Options) -> Selection | None:
    """The virtual servers that are asked for; raises `BadUsage` and `BadSelection`."""
    asked = [] if options.engines else [f"--{view.value}" for view in options.views]
    asked += ["--timeout"] * options.timeouts + ["--connections"] * options.connections
    if len(asked) > 1:
        raise BadUsage(f"{' and '.join(asked)} are different tables: ask for one of them")
    if options.limit is not None and not options.connections:
        raise BadUsage("--limit is for --connections")
    if options.service is None:
        return None
    chosen = selection.parse(options.service)
    if options.timeouts:
        raise BadUsage("--timeout is the same for all services: leave the service out")
    if options.connections and chosen.mark is not None:
        raise BadUsage("the kernel does not tell the firewall mark of a connection: name an address")
    return chosen


def _watch(options: Options, chosen: Selection | None, interval: float) -> None:
    """Print again and again; JSON is one document a line."""
    screen = Screen(sys.stdout)
    while True:
        started = time.monotonic()
        state = (
            _sampled(options, chosen, interval * _READING, screen.rows)
            if options.connections
            else _read(options, chosen)
        )
        if options.as_json:
            print(_json(_document(state)), flush=True)
        else:
            screen.draw(list(_lines(options, state)))
        time.sleep(max(0.0, interval - (time.monotonic() - started)))


def _sampled(options: Options, chosen: Selection | None, seconds: float, rows: int | None) -> Sample:
    """The connections that there is time to read and room to show."""
    room = None if rows is None else max(1, rows - _LINES_BESIDE_CONNECTIONS)
    limits = [limit for limit in (room, options.limit) if limit is not None]
    return connections.sample(min(limits, default=sys.maxsize), seconds, _wanted(chosen))


def _print_table(options: Options, chosen: Selection | None) -> None:
    state = _read(options, chosen)
    if isinstance(state, Snapshot) and chosen and not state.rows:
        raise CannotRead(f"there is no virtual server {chosen}")
    if options.as_json:
        print(msgspec.json.format(_json(_document(state))))
    else:
        print("\n".join(_lines(options, state)))


def _read(options: Options, chosen: Selection | None) -> Snapshot | Timeouts:
    if not loaded():  # opening would load it
        raise IpvsUnavailable
    with Ipvs() as ipvs:
        return ipvs.timeouts() if options.timeouts else take(ipvs, chosen)


def _lines(options: Options, state: State) -> Iterator[str]:
    if isinstance(state, Snapshot):
        yield from text.table(state, options.view, exact=options.exact)
    elif isinstance(state, Timeouts):
        yield text.timeouts(state)
    else:
        yield from text.connections(state.connections, engines=options.engines)
        if not state.whole:
            yield f"... {_more()}"


def _document(state: State) -> dict[str, object]:
    if isinstance(state, Snapshot):
        return facts.table(state)
    if isinstance(state, Timeouts):
        return {"timeouts": facts.timeouts(state)}
    return {"connections": [facts.connection(one) for one in state.connections], **_rest_of_document(state)}


def _print_connections(options: Options, chosen: Selection | None) -> None:
    """Print connections; without a limit as they are read."""
    if options.limit is None:
        if (total := connections.total()).entries > _MANY:
            _note(f"it takes the kernel minutes to show {_told(total)} connections: --limit 1000 shows some of them")
        found = Sample(filter(_wanted(chosen), connections.read()), whole=True)
    else:
        found = connections.sample(options.limit, wanted=_wanted(chosen))
    if options.as_json:
        _print_connections_document(found)
        return
    for line in text.connections(found.connections, engines=options.engines):
        print(line)
    if not found.whole:
        _note(_more())


def _wanted(chosen: Selection | None) -> Callable[[Connection], bool] | None:
    return chosen.names_that_of if chosen else None


def _more() -> str:
    return f"there are more; the whole table has {_told(connections.total())}"


def _told(total: Total) -> str:
    return f"{total.entries:,}" if total.exact else f"about {total.entries:,}"


def _print_connections_document(found: Sample) -> None:
    """Print the document as the connections come, one a line."""
    print('{"connections": [')
    for number, one in enumerate(found.connections):
        print(",\n" * (number > 0) + _json(facts.connection(one)), end="")
    print("\n], " + _json(_rest_of_document(found)).removeprefix("{"))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _rest_of_document(found: Sample) -> dict[str, object]:
    total = connections.total()
    return {"complete": found.whole, "table_entries": total.entries, "table_entries_exact": total.exact}
