"""`kpx diff` on the node of a lab: the fixture's objects as wanted, and rules that some program makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from kpx.diff.comparing import compared
from kpx.diff.difference import Difference
from kpx.lab import Lab, namespaces
from kpx.net import Family
from kpx.tools.cluster import Options, wanted
from tests.packets.node import Node, Variant
from tests.packets.proxies import ProxyFactory, StockRules
from tests.packets.scenario import FIXTURE

OBJECTS = list(yaml.safe_load_all((FIXTURE / "objects.yaml").read_text(encoding="utf-8")))
CONFIG = yaml.safe_load((FIXTURE / "config.yaml").read_text(encoding="utf-8"))


class Programmed:
    """The node with its rules, which the test's thread is in."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.run = node.run
        self._folder = folder

    def differences(self) -> list[Difference]:
        """All differences, as the command finds them."""
        report = compared(wanted(Options(manifests=str(self._folder), node="node-a")), lambda _: True)
        return list(report.differences)

    def texts(self) -> list[str]:
        """The differences in words, with the service ports that they hit."""
        return [f"{one.port or 'all'}: {one.text}" for one in self.differences()]

    def want(self, change: Callable[[list[dict]], None] = lambda _: None) -> None:  # type: ignore[type-arg]
        """Let the cluster want the fixture's objects, changed."""
        objects = list(yaml.safe_load_all((FIXTURE / "objects.yaml").read_text(encoding="utf-8")))
        change(objects)
        (self._folder / "objects.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")


@contextmanager
def programmed(lab: Lab, variant: Variant, factory: ProxyFactory, folder: Path) -> Iterator[Programmed]:
    """Both families' rules on the node; it is blank again in the end."""
    node = Node(lab)
    # The fixture of mode nftables is both families' in one.
    families = [Family.IPV4] if factory is StockRules and variant.mode == "nftables" else list(Family)
    proxies = [factory(node, variant, family) for family in families]
    try:
        for proxy in proxies:
            proxy.start(OBJECTS, {**CONFIG, "mode": variant.mode})
        here = Programmed(node, folder)
        here.want()
        with namespaces.entered(node.namespace):
            yield here
    finally:
        for proxy in proxies:
            proxy.stop()
        node.blank(variant)
