"""`kpx top` as lines of text: for pipes, for screen readers, and for a look at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kpx.tools.cluster import Options
from kpx.tools.errors import OK, ToolError, UsageError
from kpx.tools.reader import ended_with_reader
from kpx.top import words
from kpx.top.columns import Column, table_text
from kpx.top.glyphs import ASCII
from kpx.top.lines import plain
from kpx.top.pages import conntrack, rules, services, summary, syncs
from kpx.top.reading.node import NodeReader
from kpx.top.snapshot import Focus, Snapshot
from kpx.top.wish import Wish

_WIDTH = 80

# A row by its name, in words that stay the same as long as its numbers do.
Named = dict[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """A page as text, and as named rows."""

    text: Callable[[Snapshot], str]
    named: Callable[[Snapshot], Named]


def _services(found: Snapshot) -> tuple[Sequence[Any], Sequence[Column[Any]]]:
    return found.services, services.columns(found)


def _rules(found: Snapshot) -> tuple[Sequence[Any], Sequence[Column[Any]]]:
    return rules.entries(found.kernel), rules.columns(found.kernel)


def _syncs(found: Snapshot) -> tuple[Sequence[Any], Sequence[Column[Any]]]:
    return found.syncs.syncs if found.syncs else (), syncs.columns()


def _table(
    parts: Callable[[Snapshot], tuple[Sequence[Any], Sequence[Column[Any]]]], name: Callable[[Any], str]
) -> Page:
    def named(found: Snapshot) -> Named:
        rows, columns = parts(found)
        return {name(row): " ".join(f"{one.title.lower()}={one.text(row)}" for one in columns) for row in rows}

    return Page(lambda found: table_text(*parts(found)), named)


PAGES = {
    "services": _table(_services, lambda one: f"{one.port}/{one.port.protocol}"),
    "rules": _table(_rules, lambda one: " ".join(one.key)),
    "conntrack": Page(lambda found: plain(conntrack.lines(found, _WIDTH, ASCII)), conntrack.numbers),
    "syncs": _table(_syncs, lambda one: f"sync {one.number}"),
}


def run_plain(wish: Wish, options: Options) -> int:
    """Print the page once, or what changes of it line by line. Raises `ToolError`."""
    page = PAGES.get(wish.page)
    if page is None:
        raise UsageError(f"the page {wish.page} needs a terminal; as text there is `kpx {wish.page}`")
    reader, focus = NodeReader(options), Focus(wish.page)
    found = _first(reader, focus, wish)
    if wish.once:
        print(f"{plain([*summary.head(found, _WIDTH, ASCII), *summary.notices(found, _WIDTH, ASCII)])}\n")
        print(page.text(found) or "nothing")
        return OK
    with ended_with_reader():
        _say_changes(page, reader, focus, found, wish)
    return OK


def _first(reader: NodeReader, focus: Focus, wish: Wish) -> Snapshot:
    """The first reading that has everything, rates too."""
    reader.read(focus)
    found = reader.read(focus)
    if found.faults and not found.services:
        raise ToolError("; ".join(found.faults))
    while found.counted is not None and not found.counted.every:
        time.sleep(wish.interval)
        found = reader.read(focus)
    return found


def _say_changes(page: Page, reader: NodeReader, focus: Focus, found: Snapshot, wish: Wish) -> None:
    """All rows, then those that change, and what goes wrong; each line begins with the time."""
    before: Named = {}
    faults: tuple[str, ...] = ()
    readings = 0
    try:
        while True:
            now = page.named(found)
            for name, text in now.items():
                if before.get(name) != text:
                    print(f"{words.clock(found.wall)} {name} {text}", flush=True)
            for name in before.keys() - now.keys():
                print(f"{words.clock(found.wall)} {name} gone", flush=True)
            for text in found.faults if found.faults != faults else ():
                print(f"kpx top: {words.clock(found.wall)} {text}", file=sys.stderr, flush=True)
            before, faults, readings = now, found.faults, readings + 1
            if wish.iterations and readings >= wish.iterations:
                return
            time.sleep(wish.interval)
            found = reader.read(focus)
    except KeyboardInterrupt:
        return
