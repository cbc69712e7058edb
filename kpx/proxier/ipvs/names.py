"""The names of ipvs mode: its device, its chains, its IP sets.

Source: kube-proxy 1.36 in ipvs mode.
"""

from __future__ import annotations

from enum import Enum

from kpx.kernel.ipset import NAME_MAX, SetSpec
from kpx.net import Family

DEVICE = "kube-ipvs0"

SERVICES = "KUBE-SERVICES"
POSTROUTING = "KUBE-POSTROUTING"
NODE_PORT = "KUBE-NODE-PORT"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
SOURCE_RANGES = "KUBE-SOURCE-RANGES-FIREWALL"
FILTER = "KUBE-IPVS-FILTER"
OUT_FILTER = "KUBE-IPVS-OUT-FILTER"


class IpSet(Enum):
    """The IP sets: name, type, and the comment of rules that use it.

    In an order in which a packet is treated rightly while they are filled one after the other: an exception before
    the rule that it is an exception to. They are emptied the other way round.
    """

    LOOP_BACK = (
        "LOOP-BACK",
        "hash:ip,port,ip",
        "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
    )
    CLUSTER_IP = ("CLUSTER-IP", "hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose")
    LOAD_BALANCER_SOURCE_CIDR = (
        "LOAD-BALANCER-SOURCE-CIDR",
        "hash:ip,port,net",
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    )
    LOAD_BALANCER_SOURCE_IP = (
        "LOAD-BALANCER-SOURCE-IP",
        "hash:ip,port,ip",
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    )
    LOAD_BALANCER_FW = (
        "LOAD-BALANCER-FW",
        "hash:ip,port",
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    )
    LOAD_BALANCER_LOCAL = (
        "LOAD-BALANCER-LOCAL",
        "hash:ip,port",
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    )
    LOAD_BALANCER = ("LOAD-BALANCER", "hash:ip,port", "Kubernetes service lb portal")
    EXTERNAL_IP_LOCAL = (
        "EXTERNAL-IP-LOCAL",
        "hash:ip,port",
        "Kubernetes service external ip + port with externalTrafficPolicy=local",
    )
    EXTERNAL_IP = (
        "EXTERNAL-IP",
        "hash:ip,port",
        "Kubernetes service external ip + port for masquerade and filter purpose",
    )
    NODE_PORT_LOCAL_TCP = (
        "NODE-PORT-LOCAL-TCP",
        "bitmap:port",
        "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    )
    NODE_PORT_TCP = ("NODE-PORT-TCP", "bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose")
    NODE_PORT_LOCAL_UDP = (
        "NODE-PORT-LOCAL-UDP",
        "bitmap:port",
        "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    )
    NODE_PORT_UDP = ("NODE-PORT-UDP", "bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose")
    NODE_PORT_LOCAL_SCTP = (
        "NODE-PORT-LOCAL-SCTP-HASH",
        "hash:ip,port",
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
    )
    NODE_PORT_SCTP = (
        "NODE-PORT-SCTP-HASH",
        "hash:ip,port",
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
    )
    HEALTH_CHECK_NODE_PORT = ("HEALTH-CHECK-NODE-PORT", "bitmap:port", "Kubernetes health check node port")
    IPVS_IPS = ("IPVS-IPS", "hash:ip", "Addresses on the ipvs interface")

    # Members are part of many keys, and Enum's own is a function of Python that hashes the name.
    __hash__ = object.__hash__

    def __init__(self, suffix: str, type_: str, comment: str) -> None:
        self.suffix = suffix
        self.type = type_
        self.comment = comment

    def in_family(self, family: Family) -> str:
        """The set's name in a family; those of IPv6 are cut to what the kernel allows."""
        return f"{'KUBE-' if family is Family.IPV4 else 'KUBE-6-'}{self.suffix}"[:NAME_MAX]

    def spec(self, family: Family) -> SetSpec:
        return SetSpec(self.in_family(family), self.type, family)


# The order of filling, by set.
ORDER = {one: place for place, one in enumerate(IpSet)}
