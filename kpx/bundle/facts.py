"""`kpx.doctor.facts.Facts` of a bundle: what the node answered then; the rest from its tables, by the same walk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from kpx.bundle import contents
from kpx.bundle.answers import NOT_TRIED, Answers
from kpx.bundle.opened import Bundle
from kpx.doctor.facts import Call, Holder, NotKnown, Reach, Removal
from kpx.doctor.reading import pages, removal
from kpx.doctor.reading.pages import Samples
from kpx.kernel.iptables.program import Iptables
from kpx.kernel.routes import Route
from kpx.net import Family
from kpx.tools.cluster import Cluster
from kpx.tools.kernel import Held
from kpx.trace.reading.kernel import CannotTrace
from kpx.trace.reading.senders import OUTSIDE, UnknownSender
from kpx.trace.result import Hop, Trace
from kpx.trace.target import Target


class RecordedFacts:
    """Answers that were kept, and what can be worked out from the tables where a question is new."""

    hangs = False

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._answers = Answers(bundle.archive.document(contents.ANSWERS, contents.KeptAnswers))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._answers.get(name, *arguments)

    def fresh(self) -> None:
        """Nothing of it changes."""

    def cluster(self) -> Cluster:
        return self._bundle.told()[0]

    def held(self) -> Held | None:
        return self._bundle.told()[1]

    def mode(self) -> str:
        return self.cluster().mode

    def metrics(self) -> Samples:
        return pages.metrics(self)

    def connect(self, calls: Sequence[Call]) -> list[Reach]:
        raise NotKnown(NOT_TRIED)

    def setting(self, name: str) -> str:
        if self._answers.has("setting", name):
            return str(self._answers.get("setting", name))
        try:
            return self._bundle.node.settings[name]
        except KeyError:
            raise NotKnown(f"the bundle does not hold /proc/sys/{name}") from None

    def route(self, destination: str) -> Route:
        if self._answers.has("route", destination):
            found: Route = self._answers.get("route", destination)
            return found
        return self._bundle.node.route_to(destination)

    def main_address(self, family: Family) -> str:
        return self.route(OUTSIDE[family]).source

    @lru_cache(maxsize=4096)  # noqa: B019 - one for each process
    def trace(self, target: Target, sender: str) -> Trace:
        if self._answers.has("trace", target, sender):
            kept: Trace = self._answers.get("trace", target, sender)
            return kept
        try:
            return self._bundle.trace(target, sender)
        except (CannotTrace, UnknownSender) as error:
            raise NotKnown(str(error)) from error

    def listeners(self, protocol: str, port: int) -> tuple[Holder, ...]:
        return tuple(
            Holder(one.pid, one.name, f"{one.address} port {port}")
            for one in self._bundle.node.sockets
            if (one.protocol, one.port) == (protocol, port) and one.pid
        )

    def removal(self, family: Family, hop: Hop) -> Removal | None:
        node = self._bundle.node
        printed = [(Iptables(family, one.variant).program(), one) for one in node.printed(family)]
        return removal.find_in([each for each in printed if hop.table in each[1].tables], lambda: node.nft, hop)
