"""Readings that several checks share: each is made once, and one that hangs holds up nobody for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from kpx.tools.errors import ToolError

T = TypeVar("T")


class Memo:
    """Answers by key. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long a reading may take."""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._readings: dict[Hashable, Future[Any]] = {}
        self._late: set[Hashable] = set()

    @property
    def hangs(self) -> bool:
        """Whether a reading has not ended yet."""
        return any(not one.done() for one in self._readings.values())

    def get(self, key: Hashable, read: Callable[[], T], seconds: float | None = None) -> T:
        """What `read` gives, or gave. Raises what it raised, and `ToolError` if it takes too long."""
        self.begin(key, read)
        answer: T = self.result(key, seconds)
        return answer

    def begin(self, key: Hashable, read: Callable[[], Any]) -> None:
        """Begin a reading, if nobody has."""
        with self._lock:
            if key not in self._readings:
                future = self._readings[key] = Future()
                # The thread is in the network namespace of the one that starts it.
                threading.Thread(target=_fulfil, args=(future, read), name=f"read {key}", daemon=True).start()

    def result(self, key: Hashable, seconds: float | None = None) -> Any:
        """The answer of a reading that was begun."""
        future, patience = self._readings[key], seconds or self._seconds
        try:
            return future.result(0 if key in self._late else patience)
        except TimeoutError:
            if future.done():
                raise
            self._late.add(key)
            raise ToolError(f"{_name(key)} could not be read within {patience:g} s") from None


def _fulfil(future: Future[Any], read: Callable[[], Any]) -> None:
    try:
        future.set_result(read())
    except BaseException as error:
        future.set_exception(error)


def _name(key: Hashable) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
