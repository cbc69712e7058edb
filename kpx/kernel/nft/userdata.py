"""The user data of nftables objects: comments, and what `nft` needs to print a set's types.

The kernel stores these bytes without reading them; libnftnl lays them out as type-length-value records. They are
written exactly as nft 1.0.6 writes them: it crashes on listing a verdict map whose records a newer nft wrote, while
the newer ones read the old form.
"""

from __future__ import annotations

import hashlib
import sys

OBJECT_COMMENT = 0  # of tables, chains, rules and elements
SET_COMMENT = 7  # NFTNL_UDATA_SET_COMMENT

COMMENT_BYTES = 128  # NFTNL_UDATA_COMMENT_MAXLEN
USERDATA_BYTES = 256  # NFT_USERDATA_MAXLEN


def record(kind: int, value: bytes) -> bytes:
    """One record. Raises ValueError if it cannot hold the value (255 bytes)."""
    return bytes((kind, len(value))) + value


def records(data: bytes | memoryview) -> dict[int, bytes]:
    """The records by type; what follows a cut-off record is left out."""
    found: dict[int, bytes] = {}
    offset, data = 0, bytes(data)
    while offset + 2 <= len(data) and offset + 2 + data[offset + 1] <= len(data):
        found[data[offset]] = data[offset + 2 : offset + 2 + data[offset + 1]]
        offset += 2 + data[offset + 1]
    return found


def number(kind: int, value: int) -> bytes:
    """A record that holds a 32-bit number, in the machine's order as libnftnl has it."""
    return record(kind, value.to_bytes(4, sys.byteorder))


def read_number(value: bytes) -> int:
    """The number in such a record's value."""
    return int.from_bytes(value, sys.byteorder)


def comment_record(comment: str, kind: int = OBJECT_COMMENT) -> bytes:
    """The record of a comment; empty for none. Raises ValueError if nft could not print it: see `printable_comment`."""
    if not comment:
        return b""
    if comment != printable_comment(comment):
        raise ValueError(f"nft cannot print this comment: {comment!r}")
    return record(kind, comment.encode() + b"\0")


def printable_comment(text: str) -> str:
    """A comment that nft can print and read again: no quotes or control characters, 128 bytes at most.

    A longer one is cut, and ends in a hash of the whole so that two of them stay apart.
    """
    if text.isascii() and text.isprintable() and '"' not in text and len(text) <= COMMENT_BYTES:
        return text
    clean = "".join(letter if letter.isprintable() and letter != '"' else "?" for letter in text)
    if len(clean.encode(errors="replace")) <= COMMENT_BYTES:
        return clean
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
    return clean.encode(errors="replace")[: COMMENT_BYTES - 13].decode(errors="ignore") + "~" + digest


def read_comment(data: bytes | memoryview, kind: int = OBJECT_COMMENT) -> str:
    """The comment in an object's user data; empty if there is none."""
    return records(data).get(kind, b"").rstrip(b"\0").decode(errors="replace")
