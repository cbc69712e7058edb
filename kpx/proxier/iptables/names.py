"""The names of kube-proxy's chains.

The hashes are computed, here and by the tools: comments, which name the Service in clear, are left out of big rule
sets.
"""

from __future__ import annotations

import base64
import hashlib

from kpx.proxier.frontends import Endpoint, ServicePortName

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
FIREWALL = "KUBE-FIREWALL"
CANARY = "KUBE-PROXY-CANARY"

_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")


def is_service_chain(chain: str) -> bool:
    """Whether a chain belongs to a single service port or endpoint, by its name."""
    return chain.startswith(_PREFIXES)


def port_hash(port: ServicePortName) -> str:
    """The 16 characters that the chains of one service port share."""
    return _hash(f"{port}{port.protocol.lower()}")


# kube-router's, also as a part of k3s.
_NETWORK_POLICIES = ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-")


def endpoint_chain(port: ServicePortName, endpoint: Endpoint) -> str:
    """``KUBE-SEP-…``: the chain of one endpoint of one service port."""
    return f"KUBE-SEP-{_hash(f'{port}{port.protocol.lower()}{endpoint}')}"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.b32encode(digest[:10]).decode()


def is_proxys(chain: str) -> bool:
    """Whether a chain is a service proxy's or the kubelet's, and not one of kube-router's for NetworkPolicies."""
    return chain.startswith("KUBE-") and not chain.startswith(_NETWORK_POLICIES)
