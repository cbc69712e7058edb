"""What the daemon remembers for the tools: the last syncs, what others did, what is left out, and where it stands.

Kept small: a hundred records, and references to what the loop's thread holds anyway.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from msgspec.structs import replace

from kpx.cluster.events import Key
from kpx.net import Family
from kpx.proxier.desired import Conflict
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.health import rfc3339
from kpx.proxier.observer import Observer, Sync
from kpx.proxier.phases import Phase
from kpx.proxier.published import DriftRecord, FamilyState, LostAddress, RejectedObject, SyncRecord

T = TypeVar("T")

_RECORDS = 100
# The service ports and refusals that a record names.
_NAMED = 20


@dataclass(slots=True)
class _Held:
    """What the loop's thread has of one family, as of the last sync. The mappings are its own and go on changing."""

    frontends: Mapping[ServicePortName, Frontends] = field(default_factory=dict)
    conflicts: Mapping[ServicePortName, frozenset[Conflict]] = field(default_factory=dict)
    refused: dict[ServicePortName, str] = field(default_factory=dict)


class Journal(Observer):
    """Written on the loop's thread, read on any."""

    def __init__(self, families: Iterable[Family], wall: Callable[[], int] = time.time_ns) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._numbers = 0
        self._syncs: deque[SyncRecord] = deque(maxlen=_RECORDS)
        self._drift: deque[DriftRecord] = deque(maxlen=_RECORDS)
        self._rejected: dict[Key, str] = {}
        self._states = {family: FamilyState(family) for family in families}
        self._held = {family: _Held() for family in self._states}

    # What happens.

    def rejected(self, key: Key, reason: str) -> None:
        with self._lock:
            self._rejected[key] = reason

    def accepted(self, key: Key) -> None:
        with self._lock:
            self._rejected.pop(key, None)

    def queued(self, family: Family) -> None:
        with self._lock:
            state = self._states[family]
            if not state.pending_since:
                self._states[family] = replace(state, pending_since=rfc3339(self._wall()))

    def synced(self, sync: Sync) -> None:
        ended = rfc3339(self._wall())
        with self._lock:
            self._numbers += 1
            held = self._held[sync.family]
            held.frontends, held.conflicts = sync.frontends, sync.conflicts
            self._note_refused(held.refused, sync)
            self._states[sync.family] = _state(self._states[sync.family], sync, ended)
            self._syncs.append(_sync_record(self._numbers, sync, ended))
            if sync.drift or sync.repaired:
                self._drift.append(
                    DriftRecord(self._numbers, sync.family, ended, sync.drift, sync.repaired, sync.error)
                )

    def _note_refused(self, refused: dict[ServicePortName, str], sync: Sync) -> None:
        if sync.outcome is None:
            return
        for port in list(refused) if sync.full else sync.delta.now:
            refused.pop(port, None)
        refused.update(sync.outcome.rejected)

    # What is asked.

    def states(self) -> tuple[FamilyState, ...]:
        with self._lock:
            return tuple(
                replace(state, service_ports=len(self._held[family].frontends))
                for family, state in self._states.items()
            )

    def syncs(self) -> tuple[SyncRecord, ...]:
        """The last syncs, the newest first."""
        with self._lock:
            return tuple(reversed(self._syncs))

    def drift(self) -> tuple[DriftRecord, ...]:
        """What others did lately, the newest first."""
        with self._lock:
            return tuple(reversed(self._drift))

    def left_out(self) -> tuple[RejectedObject, ...]:
        """The objects that are left out, and the Services of which the kernel refuses a port."""
        with self._lock:
            objects = [(key.kind.value, key.namespace, key.name, why) for key, why in self._rejected.items()]
            refused = [
                ("Service", port.namespace, port.name, f"the kernel refuses {port} ({family.value}): {why}")
                for family, held in self._held.items()
                for port, why in held.refused.items()
            ]
        return tuple(RejectedObject(*one) for one in objects + refused)

    def conflicts(self) -> tuple[LostAddress, ...]:
        """The addresses that service ports ask for and others have."""
        return tuple(
            LostAddress(family, str(one.port), *_place(one), str(one.owner))
            for family, held in self._held.items()
            for some in snapshot(held.conflicts)
            for one in some
        )

    def frontends(self, family: Family) -> list[Frontends]:
        """The service ports of a family as they are wanted now; none for a family that is not served."""
        return snapshot(self._held[family].frontends) if family in self._held else []


def snapshot(changing: Mapping[ServicePortName, T]) -> list[T]:
    """The values of a dictionary that another thread changes.

    The interpreter makes such a list in one step: nobody waits for it, and 10,000 references take 0.1 ms.
    """
    return list(changing.values())


def _place(conflict: Conflict) -> tuple[str | None, int, str]:
    return conflict.claim.address, conflict.claim.port, conflict.claim.protocol


def _state(before: FamilyState, sync: Sync, ended: str) -> FamilyState:
    if not sync.ok:
        return replace(before, last_sync=ended, error=sync.error)
    return replace(before, last_sync=ended, last_success=ended, pending_since="", error="")


def _sync_record(number: int, sync: Sync, ended: str) -> SyncRecord:
    outcome = sync.outcome
    refused = islice(outcome.rejected.items(), _NAMED) if outcome else ()
    return SyncRecord(
        number=number,
        family=sync.family,
        ended=ended,
        full=sync.full,
        reason=sync.reason,
        seconds=round(sync.seconds, 6),
        changed=len(sync.delta.now),
        service_ports=tuple(str(port) for port in islice(sync.delta.now, _NAMED)),
        written=dict(outcome.written) if outcome else {},
        refused={str(port): why for port, why in refused},
        error=sync.error,
        drift=sync.drift,
        repaired=sync.repaired,
        phases={phase.value: round(sync.phases[phase], 6) for phase in Phase if phase in sync.phases},
    )
