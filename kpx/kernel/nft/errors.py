"""What can go wrong with a transaction."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kpx.kernel.netlink import NetlinkError


@dataclass(frozen=True, slots=True)
class Failure:
    """What the kernel refused, in nft's language, and why: errno and, where it gave any, its own words."""

    what: str
    code: int
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.detail or os.strerror(self.code)}"


class TransactionRefused(NetlinkError):
    """The kernel refused a transaction, and did none of it. ``errno`` is that of the first of its `failures`."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        first, more = failures[0], len(failures) - 1
        reason = first.detail or os.strerror(first.code)
        super().__init__(first.code, first.what, f"{reason} (and {more} more)" if more else reason)
        self.failures = failures


class GenerationChanged(Exception):
    """Someone else changed the ruleset after it was read: nothing was done; read again and try again."""


class MissingFeature(Exception):
    """The kernel lacks something; the text names it."""
