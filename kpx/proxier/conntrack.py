"""Stale UDP flows: found after the endpoints of a Service changed, and deleted.

A UDP flow lives in the kernel's conntrack table as long as its client keeps sending, and the table, not the rules,
decides where its packets go. So a flow whose endpoint is gone must be deleted for the client to reach another one.
Source: kube-proxy 1.36, which never deletes TCP and SCTP flows either, but which leaves the flows of a Service that
lost its last endpoint (kubernetes/kubernetes#139628), and deletes any flow to a node port's number, wherever it goes.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from kpx.kernel import conntrack
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket, read_whole
from kpx.logs import v
from kpx.net import Family
from kpx.proxier.frontends import Frontends
from kpx.proxier.metrics import Metrics
from kpx.proxier.stale_flows import Serving

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Request:
    frontends: Collection[Frontends]
    removed: list[Frontends]


class ConntrackCleaner:
    """Deletes stale flows on a thread of its own: reading a large table takes longer than a sync.

    Requests that come while the table is read are merged: the latest frontends count, and all that were removed.
    """

    def __init__(self, metrics: Metrics, node_addresses: Callable[[Family], Collection[str]]) -> None:
        """`node_addresses` gives a family's addresses on which node ports answer; it is called on the thread."""
        self._metrics = metrics
        self._node_addresses = node_addresses
        self._pending: dict[Family, _Request] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="conntrack")

    @property
    def idle(self) -> bool:
        """Whether all that was asked for is done."""
        with self._changed:
            return not self._pending and not self._busy

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Forget what is pending, finish what is being done, and return."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def request(self, family: Family, frontends: Collection[Frontends], removed: Iterable[Frontends] = ()) -> None:
        """Ask for the flows of a family to be examined, after its rules were changed.

        `frontends` are all of the family, in a collection that nobody changes any more; `removed` are what changed
        frontends were before, so that flows to an address that is no frontend now are found too.
        """
        with self._changed:
            merged = self._pending.get(family)
            self._pending[family] = _Request(frontends, [*(merged.removed if merged else ()), *removed])
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._pending)
                if self._stopping:
                    return
                family, request = self._pending.popitem()
                self._busy = True
            try:
                self._reconcile(family, request)
            except OSError as error:
                logger.error("stale UDP flows (%s) could not be removed: %s", family.value, error)
            with self._changed:
                self._busy = False

    def _reconcile(self, family: Family, request: _Request) -> None:
        v(4, logger, "looking for stale UDP flows (%s)", family.value)
        started = time.monotonic()
        serving = Serving(request.frontends, request.removed, self._node_addresses(family))
        with Socket(NETLINK_NETFILTER) as netlink:
            flows = read_whole(lambda: filter(serving.stale, conntrack.dump(netlink, family, socket.IPPROTO_UDP)))
            deleted = 0
            try:
                for flow in flows:
                    v(6, logger, "deleting %s (%s)", flow.original, flow.reply)
                    deleted += conntrack.delete(netlink, flow)
            finally:
                seconds = time.monotonic() - started
                self._metrics.conntrack_reconciled(family, seconds, deleted)
        v(4, logger, "removed %d stale UDP flows (%s) in %.3f s", deleted, family.value, seconds)
