"""What the proxier takes from its Node object and its configuration: addresses, primary family, local traffic.

Pure. Source: kube-proxy 1.36's detection of node addresses and its LocalTrafficDetector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kpx.cluster.objects import Node
from kpx.config.types import KubeProxyConfiguration
from kpx.net import Family, canonical_ip, canonical_network, family_of, is_loopback

ZONE_LABEL = "topology.kubernetes.io/zone"
_LOOPBACK = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}
_UNSPECIFIED = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class NodeAddresses:
    """The node's address in each family, and its primary family. A loopback address stands for one not known."""

    ips: Mapping[Family, str]
    primary: Family

    @property
    def known(self) -> bool:
        """Whether the primary address is more than the loopback stand-in."""
        return not is_loopback(self.ips[self.primary])


def reported_ips(node: Node | None) -> tuple[str, ...]:
    """The addresses that a Node object reports: its first InternalIP (else ExternalIP), and the first of the other
    family."""
    found: list[str] = []
    reported = (node.status.addresses or ()) if node else ()
    for kind in ("InternalIP", "ExternalIP"):
        for entry in reported:
            address = canonical_ip(entry.address) if entry.type == kind else None
            if address and all(family_of(address) is not family_of(other) for other in found):
                found.append(address)
    return tuple(found)


def node_addresses(node: Node | None, bind_address: str) -> NodeAddresses:
    """The node's addresses: loopback, overridden by what the node reports, overridden by a specific bind address."""
    ips = dict(_LOOPBACK)
    primary = Family.IPV4
    reported = reported_ips(node)
    if reported:
        primary = family_of(reported[0])
        ips |= {family_of(address): address for address in reported}
    bound = canonical_ip(bind_address)
    if bound and bound not in _UNSPECIFIED:
        primary = family_of(bound)
        ips[primary] = bound
    return NodeAddresses(ips, primary)


def pod_cidrs(node: Node | None) -> tuple[str, ...]:
    """The pod networks that a Node object has been given."""
    if node is None:
        return ()
    return tuple(node.spec.pod_cidrs or ()) or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())


def zone_of(node: Node | None) -> str:
    """The zone that a Node object is labelled with; empty if it is not."""
    return ((node.metadata.labels if node else None) or {}).get(ZONE_LABEL, "")


@dataclass(frozen=True, slots=True)
class LocalTraffic:
    """How packets of pods are told from others: by source network, or by the interface they come in on.

    `interface` ends in ``+`` where it is a prefix. At most one of the two is set.
    """

    source: str = ""
    interface: str = ""


def local_traffic(config: KubeProxyConfiguration, node: Node | None, family: Family) -> LocalTraffic | None:
    """The detector of local traffic of one family; None where none can be had."""
    match config.detect_local_mode:
        case "ClusterCIDR":
            return by_network(config.cluster_cidrs, family)
        case "NodeCIDR":
            return by_network(pod_cidrs(node), family)
        case "BridgeInterface":
            return LocalTraffic(interface=config.detect_local.bridge_interface)
        case "InterfaceNamePrefix":
            return LocalTraffic(interface=f"{config.detect_local.interface_name_prefix}+")
        case _:
            return None


def by_network(networks: Iterable[str], family: Family) -> LocalTraffic | None:
    """The detector by source network: the first of the family; None where there is none."""
    for network in map(canonical_network, networks):
        if network and family_of(network) is family:
            return LocalTraffic(source=network)
    return None


def warnings(config: KubeProxyConfiguration, node: Node | None, primary: Family, *, dual_stack: bool) -> list[str]:
    """What is incomplete about the configuration, in kube-proxy's words."""
    found: list[str] = []
    node_port_families = _families(config.node_port_addresses)
    if not config.node_port_addresses:
        found.append(
            "nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. "
            "Consider using `--nodeport-addresses primary`"
        )
    elif config.node_port_addresses != ("primary",):
        networks = (config.cluster_cidrs, config.node_port_addresses, config.ipvs.exclude_cidrs, pod_cidrs(node))
        if any(len(_families(some)) > 1 for some in networks) and node_port_families == {primary}:
            found.append(
                f"cluster appears to be dual-stack but nodePortAddresses contains only {primary.value} addresses"
            )
        if primary not in node_port_families:
            found.append(
                f"cluster appears to be {primary.value}-primary but nodePortAddresses has no {primary.value} address"
            )
    if fault := wrong_family(config, node, primary, dual_stack=dual_stack):
        found.append(fault)
    return found


def wrong_family(config: KubeProxyConfiguration, node: Node | None, primary: Family, *, dual_stack: bool) -> str:
    """What says that the pod networks are of the wrong family only; empty if they are not."""
    kind = f"{primary.value}-{'primary' if dual_stack else 'only'}"
    for name, networks in (("clusterCIDRs", config.cluster_cidrs), ("node.spec.podCIDRs", pod_cidrs(node))):
        families = _families(networks)
        if families and primary not in families:
            other = next(iter(families)).value
            return f"cluster is {kind} but {name} contains only {other} addresses"
    return ""


def is_fatal(config: KubeProxyConfiguration, fault: str, *, dual_stack: bool) -> bool:
    """Whether pod networks of the wrong family stop the start: where the detector of local traffic needs them."""
    if "node.spec.podCIDRs" in fault:
        return config.detect_local_mode == "NodeCIDR"
    return bool(fault) and config.detect_local_mode == "ClusterCIDR" and not dual_stack


def _families(networks: Iterable[str]) -> set[Family]:
    return {family_of(network) for network in map(canonical_network, networks) if network}
