"""What the keys do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widget import Widget

from kpx.top.app import TopApp
from kpx.top.reading.counters import compare
from kpx.top.screens.services import EndpointsView, FlowsView, RulesOfView, ServicesView
from kpx.top.screens.table import TableView
from kpx.top.screens.trace import TraceView
from kpx.top.snapshot import Focus, Service, TraceWish
from kpx.top.widgets.table import Table
from tests.unit.top.canned import AFTER, DNS, WEB, Canned, later, snapshot
from tests.unit.top.conftest import drive, press


def names(app: TopApp) -> list[str]:
    assert isinstance(app.screen, ServicesView)
    return [one.port.name for one in app.screen.table.rows]


def current(app: TopApp) -> str:
    assert isinstance(app.screen, TableView)
    row = app.screen.table.current
    assert isinstance(row, Service)
    return row.port.name


def test_sorting_by_any_column() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        assert names(app)[-2:] == ["front", "web"]
        titles: list[str] = []
        assert isinstance(app.screen, ServicesView)
        for _ in app.screen.columns(app.shown):
            await press(pilot, ">")
            titles.append(app.screen.order.title)
        assert sorted(titles) == sorted(one.title for one in app.screen.columns(app.shown))
        while app.screen.order.title != "CONN/S":
            await press(pilot, "<")
        assert names(app)[:2] == ["front", "web"]
        await press(pilot, "r")
        assert names(app)[-2:] == ["web", "front"]

    drive(scenario)


def test_filtering_as_one_types_and_clearing() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "/", *"shop")
        assert names(app) == ["empty", "front", "web"]
        await press(pilot, "enter", "/", "home", "!")
        assert "shop" not in {one.port.namespace for one in app.screen.table.rows}  # type: ignore[attr-defined]
        await press(pilot, "escape")
        assert len(names(app)) == 5
        await press(pilot, "/", *"10.244.21.12:53")
        assert names(app) == ["dns"]
        await press(pilot, *"(")
        assert "no regular expression" in app.said
        assert names(app) == ["dns"]
        await press(pilot, "enter", "escape")
        assert len(names(app)) == 5

    drive(scenario)


def test_the_cursor_stays_on_its_row_wherever_that_goes() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "G")
        assert current(app) == "web"
        await press(pilot, "r")
        assert current(app) == "web"
        await press(pilot, "/", *"web|dns", "enter")
        assert current(app) == "web"
        await press(pilot, "k")
        await press(pilot, "escape")
        assert current(app) in ("web", "dns")

    drive(scenario)


@pytest.mark.parametrize("keys", [("down", "down"), ("j", "j"), ("end", "up", "up"), ("pagedown", "k", "k")])
def test_moving(keys: tuple[str, ...]) -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, *keys)
        assert current(app) == "empty"
        await press(pilot, "g")
        assert app.screen.table.place == "1/5"  # type: ignore[attr-defined]

    drive(scenario)


def test_into_a_service_and_back() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "G", "enter")
        assert isinstance(app.screen, EndpointsView)
        await press(pilot, "f")
        assert isinstance(app.screen, FlowsView)
        await press(pilot, "escape", "enter")
        assert isinstance(app.screen, RulesOfView)
        await press(pilot, "escape", "t")
        assert isinstance(app.screen, TraceView)
        await press(pilot, "f", "n", "a")
        assert app.screen.every_hop
        await press(pilot, "escape", "escape", "escape")
        assert isinstance(app.screen, ServicesView)

    source = drive(scenario)
    assert [look for look in dict.fromkeys(source.looks) if look != Focus("services")] == [
        Focus("services", flows=WEB),
        Focus("services", rules=WEB),
        Focus("trace", trace=TraceWish(WEB)),
        Focus("trace", trace=TraceWish(WEB, sender="pod")),
        Focus("trace", trace=TraceWish(WEB, 1, "pod")),
    ]


def test_every_tab_is_one_key_away_and_keeps_its_place() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "G", "enter")
        for key, mode in zip("2345", ("trace", "rules", "conntrack", "syncs"), strict=True):
            await press(pilot, key)
            assert app.current_mode == mode
        await press(pilot, "1")
        assert isinstance(app.screen, EndpointsView)

    drive(scenario)


def test_a_pause_holds_the_body_still_and_the_head_goes_on() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "space")
        assert "PAUSED" in app.screen_text()
        source.deliver(later(snapshot(), services=()))
        await press(pilot)
        assert "22:13:21" in app.screen_text()
        assert len(names(app)) == 5
        await press(pilot, "space")
        assert names(app) == []
        assert "PAUSED" not in app.screen_text()

    source = Canned(snapshot())
    drive(scenario, source=source)


def test_the_interval() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "+", "+", "-")
        assert "read every 2 s" in app.screen_text()
        await press(pilot, "down")
        assert "read every" not in app.screen_text()

    assert drive(scenario).interval == 2.0


def test_copying_and_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "G", "y")
        assert app.clipboard.startswith("shop  web:http  ClusterIP  10.96.100.1  80/TCP  2/2  5.0  815")
        await press(pilot, "Y")
        assert app.clipboard.splitlines()[0].startswith("kpx top  node-a")
        await press(pilot, "w")
        (written,) = tmp_path.iterdir()
        assert str(written.name) in app.said.replace("\n", "")
        assert len(written.read_text().splitlines()) == 6
        await press(pilot, "4", "y")
        assert app.clipboard.startswith("entries 12,345 of 262,144")

    drive(scenario, (120, 24))


def test_a_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "w")
        assert "cannot write" in app.said

    drive(scenario)


def test_the_palette_does_what_the_keys_do() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, ":", *"conntrack")
        await pilot.app.workers.wait_for_complete()
        await press(pilot, "enter")
        await press(pilot)
        assert app.current_mode == "conntrack"

    drive(scenario)


def test_help_lists_the_keys_of_its_screen() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "2", "enter", "?")
        assert "All hops" in app.screen_text()
        await press(pilot, "?")
        assert len(app.way) == 3
        await press(pilot, "escape", "escape", "?")
        assert "All hops" not in app.screen_text()

    drive(scenario)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_quitting_ends_the_reading(key: str) -> None:
    async def scenario(_: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, key)

    assert drive(scenario).stopped


def test_a_resize_draws_anew() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.resize_terminal(60, 20)
        await press(pilot)
        assert "ADDRESS" not in app.screen_text()
        await pilot.resize_terminal(120, 40)
        await press(pilot)
        assert "ADDRESS" in app.screen_text()
        assert max(map(len, app.screen_text().splitlines())) <= 120

    drive(scenario)


def test_a_service_that_goes_while_one_looks_at_it() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        await press(pilot, "G", "enter")
        without = tuple(one for one in snapshot().services if one.port != WEB)
        source.deliver(later(snapshot(), services=without))
        await press(pilot)
        assert "shop/web:http/TCP is gone" in app.screen_text()

    source = Canned(snapshot())
    drive(scenario, source=source)


def test_what_changes_is_drawn() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        assert "5.0" in app.screen_text()
        source.deliver(later(snapshot(), counted=compare(AFTER, {**AFTER, DNS: {("10.244.21.12", 53): 99}}, 1.0)))
        await press(pilot)
        assert "87" in app.screen_text()

    source = Canned(snapshot())
    drive(scenario, source=source)


def test_only_the_lines_that_changed_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal at the end of a slow line gets no whole screen with each reading."""
    drawn: list[int] = []
    everything = -1

    def noting(widget: Table[Service], *regions: Region, **options: bool) -> Widget:
        drawn.extend([region.y for region in regions] or [everything])
        return Widget.refresh(widget, *regions, **options)

    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        monkeypatch.setattr(Table, "refresh", noting, raising=False)
        source.deliver(later(snapshot(), counted=compare(AFTER, {**AFTER, DNS: {("10.244.21.12", 53): 99}}, 1.0)))
        await pilot.pause()
        await pilot.pause()
        names = [one.port.name for one in app.screen.table.rows]  # type: ignore[attr-defined]
        # The one that counts now, and those that counted before.
        assert [names[y - 1] for y in sorted(drawn)] == ["dns", "front", "web"]
        drawn.clear()
        await press(pilot, "down")
        assert drawn == [1, 2]

    source = Canned(snapshot())
    drive(scenario, source=source)


def test_a_notice_above_a_table_leaves_the_cursor_in_sight() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        table = app.screen.query_one(Table)
        await press(pilot, "end")
        for faults in (("conntrack: no such file", "flows: no such file"), (), ("flows: no such file",)):
            source.deliver(later(source.first, faults=faults))
            await press(pilot)
            seen = [strip.text for strip in app.screen._compositor.render_strips()]
            wanted = [table.render_line(y).text for y in range(table.size.height)]
            assert seen[table.region.y : table.region.bottom] == wanted
            assert any("n59" in line for line in wanted)

    first = snapshot().services[0]
    many = [
        replace(first, port=first.port._replace(name=f"n{at:02}"), cells=first.cells._replace(name=f"n{at:02}"))
        for at in range(60)
    ]
    source = Canned(later(snapshot(), services=tuple(many), faults=()))
    drive(scenario, source=source, size=(80, 12))


def test_a_cursor_that_was_not_moved_stays_at_the_top() -> None:
    async def scenario(app: TopApp, pilot: Pilot[None]) -> None:
        for keys, wanted in (((), "aaa"), (("down",), "n01")):
            source.deliver(later(source.first, services=source.first.services[1:]))
            await press(pilot, *keys)
            source.deliver(source.first)
            await press(pilot)
            assert current(app) == wanted

    first = snapshot().services[0]
    rows = [
        replace(first, port=first.port._replace(name=name), cells=first.cells._replace(name=name))
        for name in ("aaa", "n00", "n01")
    ]
    source = Canned(later(snapshot(), services=tuple(rows), faults=()))
    drive(scenario, source=source)
