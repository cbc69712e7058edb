"""Events -> which Services changed: what the API says, of one family, reduced to what the proxier uses.

Pure: no kernel, no clock. Source: kube-proxy 1.36's ServiceChangeTracker and EndpointsChangeTracker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kpx.cluster.objects import EndpointSlice, Service
from kpx.net import Family
from kpx.proxier.frontends import ServiceName
from kpx.proxier.services import InvalidObject, ServicePortSpec, service_name, service_ports
from kpx.proxier.slices import PortEndpoints, merged, slice_endpoints, slice_service


class Changed(NamedTuple):
    """The Services that changed since changes were last taken; ``udp`` if UDP endpoints were among the changes."""

    services: set[ServiceName]
    udp: bool


@dataclass(slots=True)
class Tracker:
    """The service ports and endpoints of one family, and which Services changed since changes were last taken.

    The methods that take an event return whether it may change anything.
    """

    family: Family
    node_name: str
    _specs: dict[ServiceName, tuple[ServicePortSpec, ...]] = field(default_factory=dict)
    _slices: dict[ServiceName, dict[str, PortEndpoints]] = field(default_factory=dict)
    _slice_service: dict[tuple[str, str], ServiceName] = field(default_factory=dict)
    _changed: set[ServiceName] = field(default_factory=set)
    _udp: bool = False

    @property
    def pending(self) -> int:
        """The number of Services that changed since changes were last taken."""
        return len(self._changed)

    def apply_service(self, service: Service) -> bool:
        """A Service is added, or is now like this.

        Raises `InvalidObject` if it cannot be proxied; it is then treated as absent.
        """
        name = service_name(service)
        try:
            specs = service_ports(service, self.family)
        except InvalidObject:
            self.remove_service(name)
            raise
        if not specs:
            return self.remove_service(name)
        if specs == self._specs.get(name):
            return False
        self._specs[name] = specs
        self._changed.add(name)
        return True

    def remove_service(self, name: ServiceName) -> bool:
        """A Service is gone."""
        if self._specs.pop(name, None) is None:
            return False
        self._changed.add(name)
        return True

    def apply_slice(self, slice_: EndpointSlice) -> bool:
        """An EndpointSlice is added, or is now like this."""
        namespace, name = slice_.metadata.namespace, slice_.metadata.name
        service = slice_service(slice_) if slice_.address_type == self.family.value else None
        moved = service != self._slice_service.get((namespace, name)) and self.remove_slice(namespace, name)
        if service is None:
            return moved
        slices = self._slices.setdefault(service, {})
        endpoints, former = slice_endpoints(slice_, self.family, self.node_name), slices.get(name)
        if endpoints == former:
            return moved
        slices[name] = endpoints
        self._slice_service[namespace, name] = service
        self._note(service, endpoints, former or {})
        return True

    def slice_owner(self, namespace: str, name: str) -> ServiceName | None:
        """The Service of a slice that is known."""
        return self._slice_service.get((namespace, name))

    def remove_slice(self, namespace: str, name: str) -> bool:
        """An EndpointSlice is gone."""
        service = self._slice_service.pop((namespace, name), None)
        if service is None:
            return False
        slices = self._slices[service]
        self._note(service, slices.pop(name))
        if not slices:
            del self._slices[service]
        return True

    def _note(self, service: ServiceName, *slices: PortEndpoints) -> None:
        self._changed.add(service)
        self._udp = self._udp or any(protocol == "UDP" for ports in slices for _, protocol in ports)

    def all_changed(self) -> None:
        """Every Service is to be looked at again: what its plan depends on besides the objects is different now."""
        self._changed |= self._specs.keys()

    def take(self) -> Changed:
        """What changed since the last call."""
        changed = Changed(self._changed, self._udp)
        self._changed, self._udp = set(), False
        return changed

    def specs(self, name: ServiceName) -> tuple[ServicePortSpec, ...]:
        """The service ports of a Service; none if it is gone."""
        return self._specs.get(name, ())

    def endpoints(self, name: ServiceName) -> PortEndpoints:
        """The endpoints of a Service, by (port name, protocol)."""
        return merged(slices for _, slices in sorted(self._slices.get(name, {}).items()))
