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
from kpx.kernel.conntrack import Flow
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket, read_whole
from kpx.logs import v
from kpx.net import Family, is_loopback
from kpx.proxier.frontends import Frontends
from kpx.proxier.metrics import Metrics

logger = logging.getLogger(__name__)

_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}
_Destination = tuple[str, int]  # address, port


class Serving:
    """Which endpoints may carry the flows of which destination, for one protocol: UDP, unless told otherwise. Pure."""

    def __init__(
        self,
        frontends: Iterable[Frontends],
        removed: Iterable[Frontends] = (),
        node_addresses: Collection[str] | None = None,
        protocol: str = "UDP",
    ) -> None:
        """`removed` are frontends as they were, of which some may be in use again.

        `node_addresses` are the addresses on which node ports answer; None for any, as in kube-proxy.
        """
        self._node_addresses = node_addresses
        self._protocol = protocol
        self._number = _PROTOCOLS[protocol]
        self._by_destination: dict[_Destination, set[_Destination]] = {}
        self._by_node_port: dict[int, set[_Destination]] = {}
        for one in removed:
            self._serve(one, set())
        for one in frontends:
            self._serve(one, {(endpoint.ip, endpoint.port) for endpoint in one.endpoints if endpoint.serving})

    def _serve(self, service_port: Frontends, serving: set[_Destination]) -> None:
        if service_port.port.protocol != self._protocol:
            return
        for frontend in service_port.frontends:
            if frontend.address is None:
                self._by_node_port.setdefault(frontend.port, set()).update(serving)
            else:
                self._by_destination.setdefault((frontend.address, frontend.port), set()).update(serving)

    def stale(self, flow: Flow) -> bool:
        """Whether a flow to a frontend goes to none of its serving endpoints.

        A flow that was never translated is stale too if there is an endpoint now: it was created while there was none.
        """
        if flow.protocol != self._number:
            return False
        serving = self._serving(flow.original.destination, flow.original.destination_port)
        if serving is None:
            return False
        return flow.translated if not serving else (flow.reply.source, flow.reply.source_port) not in serving

    def _serving(self, address: str, port: int) -> set[_Destination] | None:
        by_address = self._by_destination.get((address, port))
        if by_address is not None or port not in self._by_node_port:
            return by_address
        return self._by_node_port[port] if self._is_node(address) else None

    def _is_node(self, address: str) -> bool:
        return self._node_addresses is None or address in self._node_addresses or is_loopback(address)


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
