"""What a proxy mode is, and what its backends know of the node."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from kpx.config.types import KubeProxyConfiguration
from kpx.kernel import links
from kpx.net import Family, is_loopback
from kpx.proxier.backend import Backend
from kpx.proxier.node import LocalTraffic
from kpx.proxier.nodeports import NodePortAddresses

logger = logging.getLogger(__name__)


class ModeUnavailable(Exception):
    """This node cannot run a mode; the text says why, and the remedy."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a backend needs to know of the node and the configuration, for one family."""

    family: Family
    config: KubeProxyConfiguration
    node_ip: str
    local_traffic: LocalTraffic | None
    node_ports: NodePortAddresses


class Mode(Protocol):
    """A proxy mode on this node."""

    def families(self) -> list[Family]:
        """The families in which the node can run it. Raises `ModeUnavailable` if there is none."""

    def prepare(self, site: Site) -> None:
        """Set what only a privileged process can: done once, at the start."""

    def backend(self, site: Site) -> Backend:
        """The backend of one family."""


def matching_addresses(family: Family, node_ports: NodePortAddresses, *, loopback: bool) -> tuple[str, ...]:
    """The node's addresses that node ports answer on, with those of loopback or without."""
    matching = node_ports.matching(one.address for one in links.addresses(family))
    kept = [address for address in matching if loopback or not is_loopback(address)]
    for address in sorted(set(matching) - set(kept)):
        logger.error("node ports do not answer on the loopback address %s", address)
    return tuple(kept)
