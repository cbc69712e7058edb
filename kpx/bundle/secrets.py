"""Blots out what looks like a credential, wherever it stands. Pure.

Nothing that is collected is meant to hold one; but comments of rules, or a page of somebody's, hold what they like.
"""

from __future__ import annotations

import re

_NAME = rb"(?:pass(?:word|wd|phrase)?|token|secret|api[_-]?key)"
# Ends where a string does, in text and in binary data. A quote before the colon makes it a JSON key: what follows it
# without a quote is no string, and has to stay.
_VALUE = rb"[^\s\"'\\;&\x00-\x1f]{4,}"
_QUOTES = rb"[\"'\\]"
# A JSON web token, as service accounts have; a block of PEM; what follows the words that name a credential; the
# password in an address.
_CREDENTIALS = re.compile(
    rb"(?P<jwt>eyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]*)"
    rb"|(?P<pem>-----BEGIN [A-Z0-9 ]+-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z0-9 ]+-----)?)"
    rb"|" + _NAME + _QUOTES + rb"{0,2}\s*[:=]\s*" + _QUOTES + rb"{1,2}(?P<quoted>" + _VALUE + rb")"
    rb"|" + _NAME + rb"\s*[:=]\s*(?P<bare>" + _VALUE + rb")"
    rb"|(?:bearer|authorization\s*[:=]\s*basic)\s+(?P<sent>" + _VALUE + rb")"
    rb"|://[^/\s:@\"]+:(?P<address>[^/\s@\"\x00-\x1f]+)@",
    re.IGNORECASE,
)


def blotted(data: bytes) -> bytes:
    """The same number of bytes, so that what counts its lengths (netlink) can still be read."""
    return _CREDENTIALS.sub(_blot, data)


def _blot(found: re.Match[bytes]) -> bytes:
    assert found.lastgroup
    start, end = (at - found.start() for at in found.span(found.lastgroup))
    return found[0][:start] + b"*" * (end - start) + found[0][end:]
