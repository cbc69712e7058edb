"""The list-and-watch state machine, without any IO."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kpx.cluster import wire
from kpx.cluster.cursor import LONGEST_PAUSE, PAGE_SIZE, WATCH_SECONDS, Cursor, List, Watch
from kpx.cluster.events import Applied, Event, Rejected, Removed, Synced
from kpx.cluster.objects import Kind
from kpx.cluster.wire import Change, Page
from tests.unit.cluster.objects import Mirror, key


def item(name: str, version: int, port: object = 80) -> wire.Item:
    body = {"metadata": {"name": name, "namespace": "default", "resourceVersion": str(version)}}
    return wire.item(Kind.SERVICE, msgspec.Raw(msgspec.json.encode({**body, "spec": {"ports": [{"port": port}]}})))


def bookmark(version: int) -> Change:
    return Change("BOOKMARK", wire.item(Kind.SERVICE, msgspec.Raw(b'{"metadata":{"resourceVersion":"%d"}}' % version)))


def page(version: int, *items: wire.Item, token: str = "") -> Page:
    return Page(list(items), str(version), token)


def told(events: list[Event]) -> list[str]:
    """What events say, in short: +a added or changed, -a removed, !a rejected, = synced."""
    signs = {Applied: "+", Removed: "-", Rejected: "!"}
    return ["=" if isinstance(event, Synced) else signs[type(event)] + event.key.name for event in events]


@pytest.fixture
def cursor() -> Cursor:
    return Cursor(Kind.SERVICE, uniform=max)


@pytest.fixture
def watching(cursor: Cursor) -> Cursor:
    cursor.page(page(10, item("a", 5), item("b", 6)))
    return cursor


def test_the_first_list_takes_what_the_servers_cache_has(cursor: Cursor) -> None:
    assert cursor.request.query() == {"resourceVersion": "0", "limit": str(PAGE_SIZE)}


def test_a_watch_follows_from_the_version_of_the_list(cursor: Cursor) -> None:
    assert told(cursor.page(page(10, item("a", 5)))) == ["+a", "="]
    query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "10", "timeoutSeconds": "600"}
    assert cursor.request.query() == query


def test_pages_are_asked_for_by_token_and_count_when_all_are_there(cursor: Cursor) -> None:
    assert told(cursor.page(page(10, item("a", 5), token="more"))) == []
    assert cursor.request.query() == {"limit": str(PAGE_SIZE), "continue": "more"}
    assert told(cursor.page(page(10, item("b", 6)))) == ["+a", "+b", "="]


def test_a_list_that_expires_between_pages_is_asked_for_whole_and_loses_nothing(cursor: Cursor) -> None:
    cursor.page(page(10, item("a", 5), token="more"))
    cursor.failed(stale=True)
    assert cursor.request == List("", limit=0)
    assert told(cursor.page(page(20, item("a", 5), item("b", 12)))) == ["+a", "+b", "="]


def test_a_page_that_fails_is_asked_for_again(cursor: Cursor) -> None:
    cursor.page(page(10, item("a", 5), token="more"))
    cursor.failed()
    assert cursor.request == List("", PAGE_SIZE, "more")


def test_events_and_bookmarks_move_the_version_on(watching: Cursor) -> None:
    assert told(watching.change(Change("MODIFIED", item("a", 11)))) == ["+a"]
    assert watching.request.version == "11"
    assert told(watching.change(bookmark(15))) == []
    assert watching.request.version == "15"
    assert told(watching.change(Change("DELETED", item("b", 16)))) == ["-b"]
    assert watching.request.version == "16"


def test_a_watch_that_breaks_is_resumed_and_what_it_repeats_is_not_news(watching: Cursor) -> None:
    watching.change(Change("MODIFIED", item("a", 11)))
    watching.failed()
    assert isinstance(watching.request, Watch)
    assert watching.request.version == "11"
    assert told(watching.change(Change("MODIFIED", item("a", 11)))) == []
    assert told(watching.change(Change("DELETED", item("x", 12)))) == []


def test_an_expired_version_needs_a_list_and_only_the_difference_is_told(watching: Cursor) -> None:
    watching.change(bookmark(30))
    assert watching.failed(stale=True) == 0.0
    assert watching.request.query() == {"resourceVersion": "30"}
    assert told(watching.page(page(50, item("a", 5), item("c", 41)))) == ["-b", "+c"]


def test_a_list_that_cannot_be_had_from_a_version_on_is_asked_of_the_store(watching: Cursor) -> None:
    watching.failed(stale=True)
    watching.failed(stale=True)
    assert watching.request.query() == {}


def test_a_server_that_expires_every_watch_at_once_gets_pauses(watching: Cursor) -> None:
    watching.change(bookmark(11))
    pauses = []
    for version in range(20, 25):
        pauses.append(watching.failed(stale=True))
        watching.page(page(version))
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0]


@given(st.integers(1, 200))
def test_pauses_double_up_to_a_bound_and_spread(failures: int) -> None:
    low, high = Cursor(Kind.NODE, uniform=min), Cursor(Kind.NODE, uniform=max)
    for _ in range(failures):
        least, most = low.failed(), high.failed()
    assert most == min(LONGEST_PAUSE, 0.5 * 2 ** (failures - 1))
    assert least == most / 2


@pytest.mark.parametrize("lasted", [0.0, 5.0])
def test_pauses_begin_anew_after_a_watch_that_worked(watching: Cursor, lasted: float) -> None:
    for _ in range(5):
        watching.failed()
    if not lasted:
        watching.change(bookmark(11))
    assert watching.failed(lasted=lasted) == 0.5


def test_a_watch_that_the_server_ends_is_asked_for_again_at_once(watching: Cursor) -> None:
    assert watching.closed(lasted=300.0) == 0.0
    watching.change(bookmark(11))
    assert watching.closed(lasted=0.1) == 0.0
    assert watching.closed(lasted=0.1) == 0.5, "this one brought nothing"


def test_a_server_that_ends_every_watch_at_once_gets_pauses(watching: Cursor) -> None:
    assert [watching.closed(lasted=0.0) for _ in range(4)] == [0.5, 1.0, 2.0, 4.0]


def test_a_kind_that_the_server_lacks_is_synced_and_keeps_what_was_known(watching: Cursor) -> None:
    assert told(Cursor(Kind.SERVICE_CIDR).absent()) == ["="]
    assert told(watching.absent()) == []


def test_a_bad_object_is_told_once_until_it_changes_or_goes(cursor: Cursor) -> None:
    assert told(cursor.page(page(10, item("a", 5), item("bad", 6, port="x")))) == ["+a", "!bad", "="]
    assert told(cursor.change(Change("MODIFIED", item("bad", 6, port="x")))) == []
    cursor.failed(stale=True)
    assert told(cursor.page(page(20, item("a", 5), item("bad", 6, port="x")))) == []
    assert told(cursor.change(Change("MODIFIED", item("bad", 21)))) == ["+bad"]
    assert told(cursor.change(Change("MODIFIED", item("bad", 22, port=None)))) == ["!bad"]
    assert told(cursor.change(Change("DELETED", item("bad", 23, port=None)))) == ["-bad"]


def test_an_object_without_a_name_is_told_and_leaves_the_version(watching: Cursor) -> None:
    nameless = wire.item(Kind.SERVICE, msgspec.Raw(b'{"metadata": 7}'))
    assert told(watching.change(Change("ADDED", nameless))) == ["!"]
    assert watching.request.version == "10"
    watching.failed(stale=True)
    assert told(watching.page(page(20, item("a", 5), item("b", 6)))) == []


def test_objects_without_a_version_are_told_each_time(cursor: Cursor) -> None:
    unversioned = wire.item(Kind.SERVICE, msgspec.Raw(b'{"metadata":{"name":"a"}}'))
    assert told(cursor.page(page(10, unversioned))) == ["+a", "="]
    assert told(cursor.change(Change("MODIFIED", unversioned))) == ["+a"]
    assert cursor.request.version == "10"


def test_a_watch_lasts_between_five_and_ten_minutes() -> None:
    assert WATCH_SECONDS == (300, 600)
    cursor = Cursor(Kind.NODE)
    cursor.page(page(1))
    assert isinstance(cursor.request, Watch)
    assert 300 <= cursor.request.seconds <= 600


class Conversation(RuleBasedStateMachine):
    """Any course of events between a server, a line that fails, and a cursor: in the end both know the same."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor = Cursor(Kind.SERVICE)
        self.mirror = Mirror()
        self.objects: dict[str, wire.Item] = {}
        self.history: list[tuple[int, Change]] = []
        self.version = 1
        self.oldest = 1
        self.pages: list[wire.Item] | None = None
        self.page_version = 0

    @initialize()
    def begin(self) -> None:
        self.write("a")

    @rule(name=st.sampled_from("abcd"))
    def write(self, name: str) -> None:
        self.version += 1
        type_ = "MODIFIED" if name in self.objects else "ADDED"
        port: object = "bad" if self.version % 5 == 0 else self.version
        self.objects[name] = item(name, self.version, port)
        self.history.append((self.version, Change(type_, self.objects[name])))

    @rule(name=st.sampled_from("abcd"))
    def remove(self, name: str) -> None:
        if self.objects.pop(name, None):
            self.version += 1
            self.history.append((self.version, Change("DELETED", item(name, self.version))))

    @rule()
    def compact(self) -> None:
        self.version += 1
        self.oldest = self.version
        self.history.clear()
        self.pages = None

    @rule()
    def fail(self) -> None:
        assert 0 <= self.cursor.failed() <= LONGEST_PAUSE

    @rule(size=st.integers(1, 3))
    @precondition(lambda self: isinstance(self.cursor.request, List))
    def answer_list(self, size: int) -> None:
        request = self.cursor.request
        assert isinstance(request, List)
        if not request.token:
            self.pages, self.page_version = list(self.objects.values()), self.version
        if self.pages is None:
            self.cursor.failed(stale=True)
            return
        size = size if request.limit else len(self.pages)
        now, self.pages = self.pages[:size], self.pages[size:]
        self.take(self.cursor.page(page(self.page_version, *now, token="more" if self.pages else "")))

    @rule(count=st.integers(0, 4), bookmarked=st.booleans(), clean=st.booleans())
    @precondition(lambda self: isinstance(self.cursor.request, Watch))
    def answer_watch(self, count: int, bookmarked: bool, clean: bool) -> None:
        since = int(self.cursor.request.version)
        if since < self.oldest:
            self.cursor.failed(stale=True)
            return
        missed = [change for version, change in self.history if version > since]
        for change in missed[:count]:
            self.take(self.cursor.change(change))
        if bookmarked and count >= len(missed):
            self.take(self.cursor.change(bookmark(self.version)))
        if clean:
            self.cursor.closed(lasted=60)
        else:
            self.cursor.failed(lasted=60)

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Applied):
                assert self.mirror.objects.get(event.key) != event.object, "told again, though nothing changed"
            self.mirror.take(event)

    @invariant()
    def synced_once_and_not_before_a_whole_list(self) -> None:
        assert len(self.mirror.synced) <= 1
        assert self.mirror.synced or not self.mirror.events

    def teardown(self) -> None:
        self.version += 1
        for _ in range(3):
            while isinstance(self.cursor.request, List):
                self.answer_list(size=2)
            self.answer_watch(count=len(self.history), bookmarked=True, clean=True)
        good = {key(name): wire.read(item) for name, item in self.objects.items()}
        now = {event.key: event.object for event in good.values() if isinstance(event, Applied)}
        bad = {event.key for event in good.values() if isinstance(event, Rejected)}
        assert {key: object_ for key, object_ in self.mirror.objects.items() if key not in bad} == now
        assert set(self.mirror.rejected) == bad
        assert self.mirror.synced == [Kind.SERVICE]


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
