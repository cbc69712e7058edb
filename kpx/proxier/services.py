"""A Service object -> its service ports in one family: what the object asks for, before any endpoint is known.

Source: kube-proxy 1.36's ServiceChangeTracker and BaseServicePortInfo.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kpx.cluster.objects import Service, ServicePort
from kpx.net import Family, canonical_ip, canonical_network, family_of
from kpx.proxier.frontends import ServiceName, ServicePortName

logger = logging.getLogger(__name__)

_DEFAULT_AFFINITY_SECONDS = 10800
_LONGEST_AFFINITY_SECONDS = 86400


class InvalidObject(ValueError):
    """An object that cannot be proxied; the text is one sentence for the log."""


@dataclass(frozen=True, slots=True)
class ServicePortSpec:
    """What a Service asks for on one of its ports, in one family. Addresses are canonical text.

    ``affinity`` is the ClientIP affinity's time in seconds, None without affinity. ``age`` orders Services that
    claim the same address: the creation time, then the name.
    """

    name: ServicePortName
    cluster_ip: str
    port: int
    node_port: int
    affinity: int | None
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    internal_local: bool
    external_local: bool
    health_check_port: int | None
    age: tuple[str, ServiceName]

    @property
    def externally_accessible(self) -> bool:
        return bool(self.node_port or self.load_balancer_ips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Local external policy needs them too: this node's own traffic is served by the cluster list."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)


def service_name(service: Service) -> ServiceName:
    return ServiceName(service.metadata.namespace, service.metadata.name)


def service_ports(service: Service, family: Family) -> tuple[ServicePortSpec, ...]:
    """The service ports of a Service in one family; none where kube-proxy skips it.

    Of ports with the same name and protocol the last one counts. Raises `InvalidObject` if an address that the
    Service cannot do without does not parse; other addresses that do not parse are left out.
    """
    address = _cluster_ip(service, family)
    if address is None:
        return ()
    any_port = _any_port(service, family, address)
    ports = {(port.name, port.protocol): port for port in service.spec.ports or ()}
    return tuple(_this_port(any_port, port) for port in ports.values())


def _cluster_ip(service: Service, family: Family) -> str | None:
    spec = service.spec
    if spec.cluster_ip in ("", "None") or spec.type == "ExternalName":
        return None
    if not spec.ip_families:
        text = spec.cluster_ip
    else:
        addresses = dict(zip(spec.ip_families, spec.cluster_ips or (), strict=False))
        text = addresses.get(family.value, "")
    if not text:
        return None
    address = canonical_ip(text)
    if address is None:
        raise InvalidObject(f"its cluster IP {text!r} is not an IP address")
    return address if spec.ip_families or family_of(address) is family else None


def _any_port(service: Service, family: Family, address: str) -> ServicePortSpec:
    """What all ports of a Service share; the port itself is still to be filled in."""
    spec, name = service.spec, service_name(service)
    external_local = spec.external_traffic_policy == "Local" and (
        spec.type in ("LoadBalancer", "NodePort") or (spec.type == "ClusterIP" and bool(spec.external_ips))
    )
    ingress = service.status.load_balancer.ingress if service.status and service.status.load_balancer else None
    return ServicePortSpec(
        name=ServicePortName(name.namespace, name.name, "", ""),
        cluster_ip=address,
        port=0,
        node_port=0,
        affinity=_affinity(service),
        external_ips=_of_family(spec.external_ips or (), canonical_ip, family),
        load_balancer_ips=_of_family(
            (entry.ip for entry in ingress or () if entry.ip_mode in (None, "VIP")), canonical_ip, family
        ),
        source_ranges=_source_ranges(spec.load_balancer_source_ranges or (), family),
        internal_local=spec.internal_traffic_policy == "Local",
        external_local=external_local,
        health_check_port=_health_check_port(service),
        age=(service.metadata.creation_timestamp or "", name),
    )


def _affinity(service: Service) -> int | None:
    if service.spec.session_affinity != "ClientIP":
        return None
    config = service.spec.session_affinity_config
    seconds = (config and config.client_ip and config.client_ip.timeout_seconds) or _DEFAULT_AFFINITY_SECONDS
    if not 0 < seconds <= _LONGEST_AFFINITY_SECONDS:
        raise InvalidObject(f"its session affinity of {seconds} s is out of range (1 to {_LONGEST_AFFINITY_SECONDS})")
    return seconds


def _of_family(texts: Iterable[str], canonical: Callable[[str], str | None], family: Family) -> tuple[str, ...]:
    """The texts that parse and are of the family, in their order, each once."""
    found = (canonical(text.strip()) for text in texts)
    return tuple(dict.fromkeys(one for one in found if one is not None and family_of(one) is family))


def _source_ranges(texts: Iterable[str], family: Family) -> tuple[str, ...]:
    """A range of length 0 allows everybody, as no range does."""
    ranges = _of_family(texts, canonical_network, family)
    return () if any(network.endswith("/0") for network in ranges) else ranges


def _health_check_port(service: Service) -> int | None:
    if service.spec.type != "LoadBalancer" or service.spec.external_traffic_policy != "Local":
        return None
    if not service.spec.health_check_node_port:
        logger.error("Service %s has externalTrafficPolicy Local but no healthCheckNodePort", service_name(service))
        return None
    if not 0 < service.spec.health_check_node_port < 65536:
        raise InvalidObject(f"its health-check node port {service.spec.health_check_node_port} is out of range")
    return service.spec.health_check_node_port


def _this_port(any_port: ServicePortSpec, port: ServicePort) -> ServicePortSpec:
    if not 0 < port.port < 65536 or not 0 <= port.node_port < 65536:
        raise InvalidObject(f"its port {port.port} (node port {port.node_port}) is out of range")
    if port.protocol not in ("TCP", "UDP", "SCTP"):
        raise InvalidObject(f"its protocol {port.protocol!r} is none of TCP, UDP, SCTP")
    name = any_port.name._replace(port=port.name, protocol=port.protocol)
    return replace(any_port, name=name, port=port.port, node_port=port.node_port)
