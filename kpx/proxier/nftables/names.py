"""Names of what belongs to one service port or one endpoint: readable, and distinct after being cut.

Source: the form of kube-proxy 1.36's names in nftables mode.
"""

from __future__ import annotations

import base64
import hashlib
import re

from kpx.proxier.frontends import Endpoint, ServicePortName

_LENGTH = 240  # the kernel takes 255 bytes, prefixes included
_UNUSUAL = re.compile(r"[^A-Za-z0-9/._-]")


def digest(text: str) -> str:
    """Eight characters that stand for a text."""
    return base64.b32encode(hashlib.sha256(text.encode(errors="replace")).digest())[:8].decode()


def of_port(port: ServicePortName) -> str:
    """``ULMVA6XW-ns1/svc1/tcp/p80``."""
    return _named(_path(port))


def of_endpoint(port: ServicePortName, endpoint: Endpoint) -> str:
    """``LADHJ4CG-cache/redis/tcp/__10.42.1.31/6379``; the colons of IPv6 are dots."""
    return _named(f"{_path(port)}__{endpoint.ip.replace(':', '.')}/{endpoint.port}")


def _path(port: ServicePortName) -> str:
    return f"{port.namespace}/{port.name}/{port.protocol.lower()}/{port.port}"


def _named(text: str) -> str:
    """The text behind its digest, with nothing in it that nft's language does not allow in a name."""
    name = f"{digest(text)}-{_UNUSUAL.sub('_', text)}"
    return name if len(name) <= _LENGTH else name[: _LENGTH - 3] + "..."
