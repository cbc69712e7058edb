"""The list-and-watch protocol of the Kubernetes API as a state machine without IO.

It says what to ask next, takes what came, and gives back what changed. List, then watch from the version of the list;
events and bookmarks move that version on; a watch that breaks is resumed from it. A version that the server no longer
has (410) needs a new list, and the difference between that list and what is known is delivered, nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kpx.cluster.events import Applied, Event, Key, Rejected, Removed, Synced
from kpx.cluster.objects import Kind
from kpx.cluster.wire import Change, Item, Page, read

PAGE_SIZE = 500
WATCH_SECONDS = (300, 600)
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
SOUND_WATCH = 1.0  # a watch that lasted this long, in seconds, worked


@dataclass(frozen=True, slots=True)
class List:
    """Ask for a list, or with a `token` for its next page.

    Version ``0`` takes what the server has in its cache (a server that answers from its cache ignores the limit), any
    other version takes nothing older than that, and an empty one asks the store itself.
    """

    version: str = "0"
    limit: int = PAGE_SIZE
    token: str = ""

    def query(self) -> dict[str, str]:
        """The parameters of the request."""
        named = {"limit": str(self.limit or ""), "resourceVersion": self.version, "continue": self.token}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Watch:
    """Ask for all changes since `version`; the server ends the watch after `seconds`."""

    version: str
    seconds: int

    def query(self) -> dict[str, str]:
        """The parameters of the request."""
        return {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.version,
            "timeoutSeconds": str(self.seconds),
        }


class Cursor:
    """Where one list-and-watch stands. Of every object it remembers the version only.

    Ask with `request`; report with `page`, `change`, `closed`, `failed` or `absent`. `uniform` draws a number between
    two bounds: it spreads the requests of many nodes.
    """

    def __init__(self, kind: Kind, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self.request: List | Watch = List()
        self.failures = 0
        """Failed requests since the last one that helped."""
        self._kind = kind
        self._uniform = uniform
        self._known: dict[Key, str] = {}
        self._listed: set[Key] = set()
        self._fresh: list[tuple[Applied | Rejected, str]] = []
        self._synced = False
        self._moved = False

    def page(self, page: Page) -> list[Event]:
        """Take a page of a list; after the last page, what has changed since the last list and its watches.

        Nothing of an unfinished list counts, as it may have to be begun again. What is gone comes first: something new
        may have its addresses.
        """
        self._listed.update(item.key for item in page.items)
        self._fresh += [(read(item), item.version) for item in page.items if self._is_news(item)]
        if page.token:
            self.request = List("", PAGE_SIZE, page.token)
            return []
        gone = [Removed(key) for key in self._known if key not in self._listed]
        for event in gone:
            del self._known[event.key]
        for applied, version in self._fresh:
            self._remember(applied.key, version)
        events = [*gone, *(applied for applied, _ in self._fresh), *self._synced_once()]
        self._forget_list()
        self._watch(page.version)
        return events

    def change(self, change: Change) -> list[Event]:
        """Take a watch event of any type but ``ERROR``."""
        self.failures, self._moved = 0, True
        item = change.item
        if item.version:
            self._watch(item.version)
        if change.type in ("ADDED", "MODIFIED") and self._is_news(item):
            event = read(item)
            self._remember(event.key, item.version)
            return [event]
        if change.type == "DELETED" and self._known.pop(item.key, None) is not None:
            return [Removed(item.key)]
        return []

    def closed(self, lasted: float) -> float:
        """The server ended the watch, as it was asked to: the pause before the next request, in seconds.

        A server that ends watches at once, with nothing in them, does not get a request for each.
        """
        if not self._moved and lasted < SOUND_WATCH:
            return self.failed()
        self.failures, self._moved = 0, False
        return 0.0

    def failed(self, *, lasted: float = 0.0, stale: bool = False) -> float:
        """The request failed, a watch after it `lasted` some seconds: the pause before the next one, in seconds.

        `stale` says that the server cannot go by the version asked for, so that only a list helps.
        """
        sound = self._moved or lasted >= SOUND_WATCH
        self._moved = False
        if sound:
            self.failures = 0
        if stale:
            self._list_again()
            if sound:
                return 0.0
        self.failures += 1
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - 1, 16))
        return self._uniform(longest / 2, longest)

    def absent(self) -> list[Event]:
        """The server has no such kind: that counts as an empty list, but takes nothing away that was known."""
        self.failures = 0
        return self._synced_once()

    def _is_news(self, item: Item) -> bool:
        return not item.version or self._known.get(item.key) != item.version

    def _remember(self, key: Key, version: str) -> None:
        if key.name:
            self._known[key] = version

    def _watch(self, version: str) -> None:
        self.request = Watch(version, round(self._uniform(*WATCH_SECONDS)))

    def _list_again(self) -> None:
        """After a watch, accept nothing older than what is known; if that cannot be had, ask the store itself.

        Both without pages: a server takes a limit beside a version for a wish for exactly that version.
        """
        self.request = List(self.request.version, 0) if isinstance(self.request, Watch) else List("", limit=0)
        self._forget_list()

    def _forget_list(self) -> None:
        self._listed, self._fresh = set(), []

    def _synced_once(self) -> list[Event]:
        if self._synced:
            return []
        self._synced = True
        return [Synced(self._kind)]
