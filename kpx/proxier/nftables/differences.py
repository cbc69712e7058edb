"""What a full sync found wrong, in words for the log."""

from __future__ import annotations

from collections import Counter

from kpx.proxier.nftables.ledger import Edit
from kpx.proxier.nftables.reading import Held

# Names that are told of each kind of fault.
_TOLD = 5


def differences(held: Held, edit: Edit) -> tuple[str, ...]:
    """A line for each kind of thing that was missing, changed or left over."""
    if held.table is None:
        return ("the table was missing, or could not be mended piece by piece",)
    chains = (("missing", edit.chains), ("changed", edit.rewritten))
    lines = [f"chains {fault}: {_some([*names])}" for fault, names in chains if names]
    sets = (("missing", edit.sets), ("with other elements", edit.refilled))
    lines += [f"sets {fault}: {_some([*names])}" for fault, names in sets if names]
    lines += [f"left over: {_some(edit.surplus)}"] if edit.surplus else []
    added, removed = set(edit.added), set(edit.removed)
    elements = (("missing", added - removed), ("changed", added & removed), ("left over", removed - added))
    for fault, spots in elements:
        lines += [f"{count} elements of {name} {fault}" for name, count in sorted(Counter(s for s, _ in spots).items())]
    return tuple(lines)


def _some(names: list[str]) -> str:
    more = len(names) - _TOLD
    return ", ".join(names[:_TOLD]) + (f" and {more} more" if more > 0 else "")
