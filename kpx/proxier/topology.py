"""Which endpoints of a service port this node uses, for each traffic policy.

Source: kube-proxy 1.36's CategorizeEndpoints, with hints for zones (KEP-2433) and nodes (KEP-3015) and the fallback
to serving endpoints that terminate (KEP-1669).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kpx.proxier.frontends import Endpoint

Endpoints = tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Usable:
    """The endpoints that are used: the lists of the two traffic policies, their union, and whether there are any."""

    cluster: Endpoints = ()
    local: Endpoints = ()
    reachable: Endpoints = ()
    any: bool = False


def categorise(endpoints: Endpoints, *, cluster: bool, local: bool, node: str, zone: str) -> Usable:
    """Choose from a service port's endpoints.

    `cluster` and `local` say which lists the service port uses; `node` and `zone` are this node's.
    """
    if not endpoints:
        return Usable()
    cluster_list: Endpoints = ()
    hinted: Callable[[Endpoint], bool] | None = None
    if cluster:
        hinted = _hint_filter(endpoints, node, zone)
        cluster_list = _ready_or_terminating(endpoints, hinted)
    if not local:
        return Usable(cluster=cluster_list, reachable=cluster_list, any=bool(cluster_list))

    local_list = _ready_or_terminating(tuple(endpoint for endpoint in endpoints if endpoint.local), None)
    any_usable = any(endpoint.ready or (endpoint.serving and endpoint.terminating) for endpoint in endpoints)
    reachable = local_list
    if cluster:
        # A set: the local list may hold terminating endpoints, and ones that hints keep out of the cluster list.
        wanted = set(cluster_list) | set(local_list)
        reachable = tuple(endpoint for endpoint in endpoints if endpoint in wanted)
    return Usable(cluster=cluster_list, local=local_list, reachable=reachable, any=any_usable)


def _ready_or_terminating(endpoints: Endpoints, hinted: Callable[[Endpoint], bool] | None) -> Endpoints:
    """The ready endpoints that hints leave, or else all (hinted or not) that terminate but still serve."""
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready and (hinted is None or hinted(endpoint)))
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def _hint_filter(endpoints: Endpoints, node: str, zone: str) -> Callable[[Endpoint], bool] | None:
    """The filter that the hints ask for: same node, else same zone, else none.

    One ready endpoint without a hint turns that sort of hint off: a half-written slice must not overload a few.
    """
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if all(endpoint.nodes for endpoint in ready) and any(node in endpoint.nodes for endpoint in ready):
        return lambda endpoint: node in endpoint.nodes
    if all(endpoint.zones for endpoint in ready) and any(zone in endpoint.zones for endpoint in ready):
        return lambda endpoint: zone in endpoint.zones
    return None
