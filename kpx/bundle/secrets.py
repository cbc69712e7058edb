"""Blots out what looks like a credential, wherever it stands. Pure.

Nothing that is collected is meant to hold one; but comments of rules, or a page of somebody's, hold what they like.
"""

from __future__ import annotations

import re

# A JSON web token, as service accounts have; a block of PEM; what follows the words that name a credential.
_CREDENTIALS = re.compile(
    rb"eyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]*"
    rb"|-----BEGIN [A-Z0-9 ]+-----[A-Za-z0-9+/=\s\\]*(?:-----END [A-Z0-9 ]+-----)?"
    rb"|(?i:(?<=bearer )|(?<=token=)|(?<=token: )|(?<=password=)|(?<=password: ))[^\s\"'\\,;&]{6,}",
)


def blotted(data: bytes) -> bytes:
    """The same number of bytes, so that what counts its lengths (netlink) can still be read."""
    return _CREDENTIALS.sub(lambda found: b"*" * len(found[0]), data)
