"""The text of rules, as ``iptables-save`` prints them.

Rules are written in the form in which the kernel's tables are read back, so that what is there and what should be
there compare as text.
"""

from __future__ import annotations

from functools import cache

from kpx.net import Family

# xt_comment.h: XT_MAX_COMMENT_LEN is 256 with the terminating NUL.
_MAX_COMMENT = 255


def rule(
    *matches: str,
    jump: str = "",
    source: str = "",
    destination: str = "",
    interface: str = "",
    protocol: str = "",
) -> str:
    """One rule without its chain. `source`, `destination` and `interface` may start with ``! `` to negate them."""
    parts = (
        _option("-s", source) if source else "",
        _option("-d", destination) if destination else "",
        _option("-i", interface) if interface else "",
        f"-p {protocol}" if protocol else "",
        *matches,
        f"-j {jump}" if jump else "",
    )
    return " ".join(filter(None, parts))


def _option(flag: str, value: str) -> str:
    return f"! {flag} {value[2:]}" if value.startswith("! ") else f"{flag} {value}"


def comment(text: str) -> str:
    """The comment match. Control characters, which would end the line, become ``?``; too long a text is cut."""
    clean = text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)
    while len(clean.encode()) > _MAX_COMMENT:
        clean = clean[:-1]
    quoted = clean.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")
    plain = quoted.isascii() and quoted.replace("-", "").replace("_", "").isalnum()
    return f"-m comment --comment {quoted}" if plain else f'-m comment --comment "{quoted}"'


def port(protocol: str, number: int | None = None) -> str:
    """The match of a destination port, or of the bare protocol that DNAT to a port needs."""
    return f"-m {protocol} --dport {number}" if number is not None else f"-m {protocol}"


def host(address: str) -> str:
    """A single address as a network."""
    return f"{address}/128" if ":" in address else f"{address}/32"


@cache
def probability(share: int) -> str:
    """The match of one packet in `share`, in the kernel's 31-bit steps (xt_statistic.h)."""
    # kube-proxy writes the fraction with ten decimals, and iptables rounds that.
    steps = round(float(f"{1 / share:.10f}") * 0x80000000)
    return f"-m statistic --mode random --probability {steps / 0x80000000:.11f}"


def recent(name: str, family: Family, *, check_seconds: int | None = None) -> str:
    """The match that looks up a source address in the list `name`, or without `check_seconds` notes it there."""
    mask = "255.255.255.255" if family is Family.IPV4 else "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    what = "--set" if check_seconds is None else f"--rcheck --seconds {check_seconds} --reap"
    return f"-m recent {what} --name {name} --mask {mask} --rsource"
