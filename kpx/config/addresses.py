"""The addresses of kube-proxy's two servers: an IP, or an IP and a port."""

from __future__ import annotations

import re

from kpx.net import Family, canonical_ip, family_of, join_port

HEALTHZ_PORT = 10256
METRICS_PORT = 10249

_HOST_PORT = re.compile(r"(?:\[([^][]*)\]|([^][:]*)):([^][:]*)")


def split_host_port(text: str) -> tuple[str, str]:
    """``host:port`` or ``[host]:port`` in its two parts, unchecked; ValueError if the text has no such form."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is neither IP:port nor [IP]:port')
    return match[1] or match[2] or "", match[3]


def is_port(text: str) -> bool:
    """Whether a text is a port that a server can listen on, 1-65535."""
    return text.isascii() and text.isdigit() and 1 <= int(text) <= 65535


def with_port(address: str, port: int) -> str:
    """The address with a port: its own, or else `port`. What is no address stays as it is, for validation to name."""
    return address if canonical_ip(address) is None else join_port(address, port)


def default_servers(bind_address: str) -> tuple[str, str]:
    """Where the health and the metrics server listen if the file says nothing: in the family of ``bindAddress``."""
    ip = canonical_ip(bind_address)
    if ip is not None and family_of(ip) is Family.IPV6:
        return join_port("::", HEALTHZ_PORT), join_port("::1", METRICS_PORT)
    return join_port("0.0.0.0", HEALTHZ_PORT), join_port("127.0.0.1", METRICS_PORT)
