"""A service port and its endpoints -> its `Frontends`: every policy is resolved here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Masquerade, Scope, Verdict
from kpx.proxier.services import ServicePortSpec
from kpx.proxier.topology import Usable, categorise


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """What the plan depends on besides the objects: this node, and the proxier's settings.

    ``pods_known`` says whether there is a detector of local traffic: without one no traffic counts as from outside
    the cluster. ``external_ips`` is the feature gate AllowServiceExternalIPs.
    """

    node: str = ""
    zone: str = ""
    masquerade_all: bool = False
    pods_known: bool = True
    external_ips: bool = True


def plan(spec: ServicePortSpec, endpoints: tuple[Endpoint, ...], view: Viewpoint) -> Frontends:
    """Resolve one service port. `endpoints` are all that the slices name for it, ordered by identity."""
    usable = categorise(
        endpoints,
        cluster=spec.uses_cluster_endpoints,
        local=spec.uses_local_endpoints,
        node=view.node,
        zone=view.zone,
    )
    return Frontends(
        port=spec.name,
        frontends=_frontends(spec, usable, view),
        endpoints=endpoints,
        cluster=usable.cluster,
        local=usable.local,
        reachable=usable.reachable,
        has_endpoints=usable.any,
        affinity=spec.affinity,
        internal_scope=_scope(spec.internal_local),
        external_scope=_scope(spec.external_local),
        health_check_port=spec.health_check_port,
    )


def _scope(local: bool) -> Scope:
    return Scope.LOCAL if local else Scope.CLUSTER


def _verdict(usable: Usable, scope: Scope) -> Verdict:
    """Reject where nobody could answer; drop where others could, so that a load balancer tries another node."""
    if not usable.any:
        return Verdict.REJECT
    return Verdict.DROP if scope is Scope.LOCAL and not usable.local else Verdict.FORWARD


def _frontends(spec: ServicePortSpec, usable: Usable, view: Viewpoint) -> tuple[Frontend, ...]:
    protocol = spec.name.protocol
    internal = _scope(spec.internal_local)
    off_cluster = Masquerade.OFF_CLUSTER if view.pods_known else Masquerade.NEVER
    first = Frontend(
        kind=Kind.CLUSTER_IP,
        address=spec.cluster_ip,
        port=spec.port,
        protocol=protocol,
        scope=internal,
        verdict=_verdict(usable, internal),
        masquerade=Masquerade.ALWAYS if view.masquerade_all else off_cluster,
    )
    external = _scope(spec.external_local)
    verdict = _verdict(usable, external)
    # The policy Local keeps the client's address; the node's own address cannot be kept: replies must come back here.
    masquerade = Masquerade.NODE if external is Scope.LOCAL else Masquerade.ALWAYS

    def outside(kind: Kind, address: str | None, port: int, sources: tuple[str, ...] = ()) -> Frontend:
        return Frontend(kind, address, port, protocol, external, verdict, masquerade, sources)

    external_ips = spec.external_ips if view.external_ips else ()
    return (
        first,
        *(outside(Kind.EXTERNAL_IP, address, spec.port) for address in external_ips),
        *(outside(Kind.LOAD_BALANCER, address, spec.port, spec.source_ranges) for address in spec.load_balancer_ips),
        *((outside(Kind.NODE_PORT, None, spec.node_port),) if spec.node_port else ()),
    )
