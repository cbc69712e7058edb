"""How long a change in the cluster takes to reach the kernel of this node.

The cluster writes the time of a change into its EndpointSlice; the SLI is the time from there to the sync that
programmed it (kube-proxy's network programming latency).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime

from kpx.cluster.objects import EndpointSlice
from kpx.proxier.frontends import ServiceName
from kpx.proxier.slices import slice_service

logger = logging.getLogger(__name__)

TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(slots=True)
class Triggers:
    """The times of the changes that are not programmed yet; those from before `since` (Unix time) do not count."""

    since: float
    _times: dict[ServiceName, list[float]] = field(default_factory=dict)

    def note(self, slice_: EndpointSlice) -> None:
        """A slice changed."""
        text = (slice_.metadata.annotations or {}).get(TRIGGER_ANNOTATION)
        service = slice_service(slice_)
        if text is None or service is None:
            return
        try:
            moment = datetime.fromisoformat(text).timestamp()
        except ValueError:
            logger.error("EndpointSlice of %s has no time in %s: %r", service, TRIGGER_ANNOTATION, text)
            return
        if moment > self.since:
            self._times.setdefault(service, []).append(moment)

    def forget(self, service: ServiceName) -> None:
        """A slice of a Service is gone: the times noted for it would say nothing about rules."""
        self._times.pop(service, None)

    def take(self, now: float) -> tuple[float, ...]:
        """The seconds from each noted change to `now`; start anew."""
        times, self._times = self._times, {}
        return tuple(now - moment for noted in times.values() for moment in noted)
