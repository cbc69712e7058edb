"""Events (``kubectl get events``): what happened to an object, for the people who run the cluster."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

logger = logging.getLogger(__name__)


class EventType(Enum):
    """The API's two types of Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """The object that an Event regards; Events of an object without a namespace are kept in ``default``."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""
    api_version: str = "v1"

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Recorder(Protocol):
    """Takes Events. Never blocks and never fails: an Event that cannot be kept is dropped."""

    def event(self, regarding: ObjectReference, type_: EventType, reason: str, action: str, note: str) -> None:
        """Record that for `reason` (CamelCase) `action` (CamelCase) was taken on an object; `note` is for people."""

    def flush(self, seconds: float) -> None:
        """Wait until what was recorded is kept, for at most this long."""


class LogRecorder:
    """Writes Events to the log, where there is no API server to keep them."""

    def event(self, regarding: ObjectReference, type_: EventType, reason: str, action: str, note: str) -> None:
        """Log the Event: a Warning as a warning."""
        level = logging.WARNING if type_ is EventType.WARNING else logging.INFO
        logger.log(level, "event regarding %s: %s (%s): %s", regarding, reason, action, note)

    def flush(self, seconds: float) -> None:
        """Nothing is left to do."""
