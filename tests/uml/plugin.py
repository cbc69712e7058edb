"""A pytest plugin: the tests under tests/ipvs run in a guest, and their results appear as if they had run here.

The host's pytest boots one guest for all of them as soon as they are collected, goes on with its own tests, and at last
replays the reports that the guest's pytest has written. Where workers share the tests, a worker boots a guest with the
first test of those that are to share one. The plugin is the same in the host and in the guest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Literal

import pytest

from tests import workers
from tests.uml import guest, journal
from tests.uml.guest import Guest, GuestFailed


def pytest_configure(config: pytest.Config) -> None:
    if folder := os.environ.get(guest.FOLDER):
        config.pluginmanager.register(Inside(config, Path(folder)))
    elif "UML_RUN" not in os.environ:  # in a guest that somebody has started by hand, pytest is as always
        config.pluginmanager.register(Outside(config))


class Outside:
    """The host's side."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folder = config.rootpath / guest.TESTS
        self._worker = hasattr(config, "workerinput")
        # By what they share: the tests of each guest, and the guests that were booted.
        self._items: dict[str, list[pytest.Item]] = {}
        self._guests: dict[str, Guest] = {}
        self._left_out = 0

    def _is_guests(self, item: pytest.Item) -> bool:
        return item.path.is_relative_to(self._folder)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        items = [item for item in session.items if self._is_guests(item)]
        if not self._worker:  # last, so that no other test waits for the guest
            session.items.sort(key=self._is_guests)
        if not items or self._config.option.collectonly or session.testsfailed:
            return
        if reason := guest.missing():
            self._left_out = len(items)
            for item in items:
                item.add_marker(pytest.mark.skip(reason=reason))
            return
        for item in items:  # the time-out is the guest's: here they wait for one another
            item.add_marker(pytest.mark.timeout(0), append=False)
        for item in items:
            self._items.setdefault(self._company(item), []).append(item)
        if not self._worker:
            self._guest_of(items[0])

    def _company(self, item: pytest.Item) -> str:
        return workers.company(item.nodeid) if self._worker else guest.TESTS

    def _guest_of(self, item: pytest.Item) -> Guest:
        """The guest that runs a test; boots it, if none of its tests was asked for before."""
        company = self._company(item)
        if company not in self._guests:
            items = self._items[company]
            # It stays for a while, to look into, as a `tmp_path` does.
            folder = self._config._tmp_path_factory.mktemp("uml")
            paths = list(dict.fromkeys(item.path for item in items))
            nodeids = [item.nodeid for item in items]
            self._guests[company] = Guest(folder, self._config.rootpath, paths, nodeids, self._options())
        return self._guests[company]

    def _options(self) -> list[str]:
        """The options that shape a report, as they were given here."""
        option = self._config.option
        verbose = [f"-{'v' * option.verbose}"] if option.verbose > 0 else []
        return [f"--tb={option.tbstyle}", *verbose, *(["--showlocals"] if option.showlocals else [])]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """With the last test that runs here, all fixtures end: pytest expects the next one to be in need of them."""
        try:
            return (yield)
        finally:
            if self._items and nextitem and self._is_guests(nextitem):
                item.session._setupstate.teardown_exact(None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not self._items or not self._is_guests(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(self._guest_of(item), item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, running: Guest, item: pytest.Item) -> list[pytest.TestReport]:
        try:
            return [self._report(data) for data in running.reports(item.nodeid)]
        except GuestFailed as failure:
            reports = [self._report(data) for data in running.partial(item.nodeid)]
            return [*reports, _failed(item, str(failure))]

    def _report(self, data: journal.Data) -> pytest.TestReport:
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        assert isinstance(report, pytest.TestReport)
        if isinstance(report.longrepr, list):  # of a skipped test; JSON knows no tuples
            report.longrepr = tuple(report.longrepr)
        return report

    def pytest_unconfigure(self) -> None:
        for running in self._guests.values():
            running.stop()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._left_out:
            terminalreporter.section("tests left out", yellow=True)
            terminalreporter.line(f"{self._left_out} tests of mode ipvs were SKIPPED: {guest.missing()}", yellow=True)


def _failed(item: pytest.Item, text: str) -> pytest.TestReport:
    """The report of a test on which the guest has no final one."""
    keywords: dict[str, Literal[1]] = dict.fromkeys(item.keywords, 1)
    return pytest.TestReport(item.nodeid, item.location, keywords, "failed", text, "call")


class Inside:
    """The guest's side."""

    def __init__(self, config: pytest.Config, folder: Path) -> None:
        self._config = config
        self._selected: list[str] = json.loads((folder / guest.SELECTED).read_bytes())
        self._journal = journal.Writer(folder / guest.JOURNAL)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The very tests that were selected on the host, in their order there."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self._selected if nodeid in found]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._journal.started(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._journal.report(report.nodeid, data)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._journal.finished(nodeid)
