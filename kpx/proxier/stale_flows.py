"""Which flows are stale: they lead to no endpoint that serves. Pure; `kpx.proxier.conntrack` says why that matters."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable

from kpx.kernel.conntrack import Flow
from kpx.net import is_loopback
from kpx.proxier.frontends import Frontends

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
