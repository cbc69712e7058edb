"""Lists of endpoints in a map: endpoint i of n has slot i, and a random slot number picks one.

Pure. Lists change by as few slots as possible, and stay dense.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# How much likelier than fair the first slot may be picked.
_BIAS = 0.001


def settle(held: Sequence[bytes | None], wanted: Sequence[bytes]) -> list[bytes]:
    """The new order of a list: who stays keeps its slot, newcomers take the slots of those who leave, then new ones.

    If more leave than come, the last ones move into the holes. `held` has None for a slot that is missing.
    """
    stay = set(held) & set(wanted)
    newcomers = [one for one in wanted if one not in stay]
    newcomers.reverse()
    slots: list[bytes | None] = []
    for one in held:
        if one in stay:
            stay.remove(one)  # the same endpoint in two slots has the second one taken away
            slots.append(one)
        else:
            slots.append(newcomers.pop() if newcomers else None)
    slots += reversed(newcomers)
    return _dense(slots)


def _dense(slots: list[bytes | None]) -> list[bytes]:
    """Holes filled with the last ones."""
    order: list[bytes] = []
    end = len(slots)
    for at in range(len(slots)):
        one = slots[at]
        while one is None and end > at + 1:
            end -= 1
            one = slots[end]
        if at >= end or one is None:
            break
        order.append(one)
    return order


def capacity(count: int) -> int:
    """The range of the random number for that many slots: the power of two that holds them, 0 for none.

    It seldom changes with the number of endpoints, and only then the chain that serves a frontend does.
    """
    return 1 << (count - 1).bit_length() if count else 0


def attempts(size: int) -> int:
    """How often a slot is drawn before the first slot is taken, for a capacity.

    A draw misses if its slot is not there: at most `size` / 2 - 1 of them. What misses each time falls to the first
    slot, whose share must not grow by more than a thousandth.
    """
    fewest = size // 2 + 1
    miss = (size - fewest) / size
    return math.ceil(math.log(_BIAS / fewest) / math.log(miss)) if miss > 0 else 1
