"""A bundle that was opened, for the commands that work on it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from kpx.bundle import contents
from kpx.bundle.archive import Archive
from kpx.bundle.node import RecordedNode
from kpx.kernel.conntrack import Flow
from kpx.proxier.frontends import ServiceName
from kpx.tools.cluster import Cluster, Options
from kpx.tools.errors import ToolError
from kpx.tools.flows import shown
from kpx.tools.kernel import Held
from kpx.trace.answer import Answer, Flows
from kpx.trace.comparison import differences
from kpx.trace.questions import Question
from kpx.trace.reading.flows import NUMBERS, SHOWN
from kpx.trace.reading.kernel import NO_RULES, CannotTrace, Node, family_asked, follow
from kpx.trace.reading.rules import KernelRules
from kpx.trace.result import Trace
from kpx.trace.target import Target


class Bundle:
    """What a node told of itself once."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` where there is no such file, `ToolError` where it is no bundle."""
        self.archive = Archive(path)
        self.node = RecordedNode(self.archive)

    @property
    def options(self) -> Options:
        """With these, the tools ask the bundle."""
        return Options(told=self.told)

    def told(self) -> tuple[Cluster, Held | None]:
        return self._told

    @cached_property
    def _told(self) -> tuple[Cluster, Held | None]:
        kept: contents.KeptCluster = self.archive.document(contents.CLUSTER, contents.KeptCluster)
        services = {ServiceName(one.metadata.namespace, one.metadata.name): one for one in kept.services}
        cluster = Cluster(
            source=kept.source,
            origin=kept.origin,
            node=kept.node,
            mode=kept.mode,
            ports=[(one.family, one.read()) for one in kept.ports],
            notes=(f"as it was: {self.archive.manifest.text}", *kept.notes),
            look=services.get,
            proxy=kept.proxy,
            here=lambda: kept.here,
        )
        return cluster, self.node.held(cluster.mode)

    def trace(self, target: Target, sender: str) -> Trace:
        """The walk of `kpx trace`, through the rules that were kept. Raises `CannotTrace` and `UnknownSender`."""
        family = family_asked(target, sender)
        rules = KernelRules(family, self.node.nft, self.node, self.node.printers(family))
        proxies = [*rules.proxies(), *(["ipvs"] if self.node.servers else [])]
        if not proxies:
            raise CannotTrace(NO_RULES)
        return follow(target, sender, Node(family, self.node, rules, self.node, proxies))

    def answer(self, question: Question, sender: str, _cluster: Cluster | None) -> Answer:
        """The answer to a question of `kpx trace`."""
        traced = self.trace(question.target, sender)
        wanted = question.wanted
        found = None if wanted is None else tuple(differences(wanted, traced))
        return Answer(question, traced, found, self._flows_to(traced))

    def _flows_to(self, trace: Trace) -> Flows:
        try:
            kept: contents.KeptFlows = self.archive.document(contents.CONNTRACK, contents.KeptFlows)
        except ToolError:
            return Flows(complete=False)
        meant = NUMBERS[trace.target.protocol], trace.destination, trace.target.port
        found = [one for one in kept.flows if _sent_to(one) == meant]
        return Flows(tuple(shown(one, None) for one in found[:SHOWN]), len(found), len(kept.flows) == kept.total)


def _sent_to(flow: Flow) -> tuple[int, str, int]:
    return flow.protocol, flow.original.destination, flow.original.destination_port
