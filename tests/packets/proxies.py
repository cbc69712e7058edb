"""What programs the rules in a run: the seam where an implementation plugs in, and stock kube-proxy's rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from kpx.net import Family
from tests.packets.node import Node, Variant
from tests.packets.scenario import FIXTURE, Object

_NFACCT = re.compile(r" -m nfacct --nfacct-name +\S+")


class Proxy(Protocol):
    """A service proxy on the node, for one run of one scenario.

    Each method returns when the kernel holds the rules for what it was given.
    """

    def start(self, objects: list[Object], config: dict[str, Any]) -> None:
        """Serve these objects; `config` is a whole KubeProxyConfiguration."""

    def update(self, objects: list[Object]) -> None:
        """The objects are now these: all of them, not only what changed."""

    def stop(self) -> None:
        """End; called once, also after a failure. Rules may stay: the node is made blank afterwards."""


ProxyFactory = Callable[[Node, Variant, Family], Proxy]


class StockRules:
    """The very rules that kube-proxy 1.36 made from the fixture's objects; they do not change."""

    def __init__(self, node: Node, variant: Variant, family: Family) -> None:
        self._node = node
        self._variant = variant
        self._family = family

    def start(self, objects: list[Object], config: dict[str, Any]) -> None:
        del objects, config
        self._node.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")  # kube-proxy sets it at its start
        if self._variant.mode == "nftables":
            self._node.run("nft", "-f", "-", stdin=(FIXTURE / "nftables.txt").read_text(encoding="utf-8"))
            return
        program = self._variant.iptables(self._family)
        rules = (FIXTURE / f"{program}-save.txt").read_text(encoding="utf-8")
        self._node.run(f"{program}-restore", stdin=_NFACCT.sub("", rules))

    def update(self, objects: list[Object]) -> None:
        raise NotImplementedError("stock rules stand for the fixture's objects as they are")

    def stop(self) -> None:
        pass
