"""Rules taken away by kind, to show that the scenarios notice."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from kpx.net import Family
from tests.packets.node import Node, Variant
from tests.packets.proxies import Proxy, ProxyFactory
from tests.packets.scenario import Object

# Rules without which everything goes where it should all the same.
WITHOUT_EFFECT = {
    # It only counts: the same match without the counter follows.
    "KUBE-NODEPORTS -d --dport --nfacct-name -j KUBE-EXT",
    # It has no target: it is there to be read.
    "KUBE-FW",
}

# What a kind keeps of an option's value.
_TELLING = {"-j", "--ctstate", "--dst-type", "--src-type"}
_SILENT = {"-A", "-m", "-p", "--comment"}


def kind_of(rule: str) -> str:
    """What a line of iptables-save does, whatever service it is for: chain, matches, target.

    ``-A KUBE-EXT-2326Y3V3BBDMMUNP -m comment --comment "…" -j KUBE-MARK-MASQ`` is ``KUBE-EXT -j KUBE-MARK-MASQ``.
    """
    words = shlex.split(rule)
    kept = [_bare(words[1])]
    option = ""
    for word in words[2:]:
        if word.startswith("-") or word == "!":
            option = word
            if word not in _SILENT:
                kept.append(word)
        elif option in _TELLING:
            kept.append(_bare(word))
    return " ".join(kept)


def _bare(name: str) -> str:
    """A chain's name without its hash."""
    prefix, _, end = name.rpartition("-")
    return prefix if prefix.startswith("KUBE-") and len(end) == 16 else name


def rules(node: Node, variant: Variant, family: Family) -> Iterator[str]:
    """The lines that add kube-proxy's rules, its jumps from built-in chains among them."""
    for line in node.run(f"{variant.iptables(family)}-save").splitlines():
        if line.startswith("-A ") and "KUBE-" in line:
            yield line


class Without:
    """A proxy from whose rules one kind is taken away after each change."""

    def __init__(self, proxy: Proxy, node: Node, variant: Variant, family: Family, kind: str) -> None:
        self._proxy = proxy
        self._node = node
        self._program = variant.iptables(family)
        self._kind = kind
        self.removed = 0

    def start(self, objects: list[Object], config: dict[str, Any]) -> None:
        self._proxy.start(objects, config)
        self._take_away()

    def update(self, objects: list[Object]) -> None:
        self._proxy.update(objects)
        self._take_away()

    def stop(self) -> None:
        self._proxy.stop()

    def _take_away(self) -> None:
        lines = self._node.run(f"{self._program}-save").splitlines()
        kept = [line for line in lines if not line.startswith("-A ") or kind_of(line) != self._kind]
        self.removed += len(lines) - len(kept)
        self._node.run(f"{self._program}-restore", stdin="\n".join([*kept, ""]))


def without(kind: str, factory: ProxyFactory) -> ProxyFactory:
    """The factory of proxies that lack a kind of rule."""
    return lambda node, variant, family: Without(factory(node, variant, family), node, variant, family, kind)
