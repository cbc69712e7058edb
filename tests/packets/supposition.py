"""What `kpx trace --if` says of rules that nobody has made, against what the scenario, proven with packets, expects."""

from __future__ import annotations

from typing import Any

import msgspec

from kpx.lab import namespaces
from kpx.lab.objects import configuration
from kpx.lab.topology import NODE
from kpx.net import Family
from kpx.proxier.plan import Viewpoint
from kpx.tools import objects
from kpx.tools.cluster import Cluster
from kpx.tools.stock import Configuration
from kpx.trace.questions import owned
from kpx.trace.result import Trace
from kpx.trace.target import Target
from kpx.whatif.answering import answering
from kpx.whatif.assumptions import parse
from tests.packets.node import Node, Variant
from tests.packets.own import Kpx, read
from tests.packets.prediction import Predicted
from tests.packets.proxies import Proxy, ProxyFactory
from tests.packets.runner import Run, Unexpected, target_of
from tests.packets.scenario import Object, Send, Step


class Nobody:
    """A `Proxy` that programs nothing, but for what routing asks of the kernel beforehand."""

    def __init__(self, node: Node, variant: Variant, family: Family) -> None:
        self._node = node

    def start(self, objects: list[Object], config: dict[str, Any]) -> None:
        self._node.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")

    def update(self, objects: list[Object]) -> None:
        pass

    def stop(self) -> None:
        pass


def beside(other: Variant) -> ProxyFactory:
    """kpx at work in another mode than the one that is supposed."""

    def start(node: Node, _: Variant, family: Family) -> Proxy:
        return Kpx(node, other, family)

    return start


class Supposition(Predicted):
    """A run of a case in which every send to a Service is traced through rules that kpx would make; none is made."""

    def _step(self, number: int, step: Step) -> None:
        told = [f"  {send.sender} -> {send.to}\n    {text}" for send in step.send for text in self._wrong(send)]
        if told:
            raise Unexpected(f"{self._case.name}, step {number}:\n" + "\n".join(told))
        if not step.send:
            Run._step(self, number, step)

    def _wrong(self, send: Send) -> list[str]:
        scheme, address, port = target_of(send)
        served = owned(Target(address, port, scheme), self._cluster().ports)
        return super()._wrong(send) if served.wanted and scheme in ("tcp", "udp") else []

    def _trace(self, send: Send) -> Trace:
        protocol, address, port = target_of(send)
        sender = self._sources(send)[0] or ("node" if send.sender == "node" else self._address(send.sender))
        cluster = self._cluster()
        with namespaces.entered(Node(self._lab).namespace):
            question = owned(Target(address, port, protocol), cluster.ports)
            return answering(parse([f"mode={self._variant.mode}"]))(question, sender, cluster).trace

    def _cluster(self) -> Cluster:
        config = msgspec.convert(configuration(self._variant.mode, self._case.config), Configuration, strict=False)
        found = list(read(self._world.objects).values())
        view = Viewpoint(node=NODE, masquerade_all=config.masquerade_all, pods_known=config.pods_known)
        return Cluster(
            "manifests",
            "the scenario",
            NODE,
            "",
            objects.wanted(found, view),
            proxy=config,
            here=lambda: objects.find_node(found, NODE),
        )
